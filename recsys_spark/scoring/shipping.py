"""How a fused model reaches the tasks: as one archive named by its content, unpacked once on each host."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import uuid
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from pyspark import SparkFiles
from pyspark.sql import SparkSession

from recsys_spark.fusion.model import FusedModel
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.scoring.memory import keep_freed_memory
from recsys_spark.session import is_local_master, process_folder

KEPT = 4
"""Unpacked models that a host keeps."""


@dataclass(frozen=True)
class ShippedModel:
    """A reference that tasks turn into the model."""

    name: str
    """sha256 of the model's manifest, which holds the hashes of all else."""
    directory: str | None
    """The model's directory, where tasks run on the driver's host; else it travels as the archive `<name>.zip`."""
    threads: int
    """Threads of a task's matrix products."""

    def load(self) -> FusedModel:
        """The model, loaded and checked once in each Python worker."""
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        return _load(self.name, self.directory)


def ship(spark: SparkSession, directory: Path) -> ShippedModel:
    """Make a model directory reachable from the tasks.

    On a local master tasks read it in place. Elsewhere it goes through Spark as an archive named by its hash: a changed
    file under an old name would be served stale, and a path is not assumed to be shared. A model is sent once.
    """
    context = spark.sparkContext
    name = file_sha256(directory / MANIFEST)
    threads = int(context.getConf().get("spark.task.cpus", "1") or 1)
    if is_local_master(context.master):
        return ShippedModel(name, str(directory), threads)
    if not any(path.endswith(f"/{name}.zip") for path in context.listFiles):
        context.addFile(str(_archive(directory, name)))
    return ShippedModel(name, None, threads)


def _archive(directory: Path, name: str) -> Path:
    """The directory as `<name>.zip`, in a folder that stays: executors fetch it from there when they first need it."""
    archive = process_folder() / f"{name}.zip"
    if not archive.exists():
        partial = archive.with_suffix(".partial")
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as target:
            for path in sorted(directory.rglob("*")):
                if path.is_file():
                    target.write(path, path.relative_to(directory))
        partial.rename(archive)
    return archive


@lru_cache(maxsize=2)
def _load(name: str, directory: str | None) -> FusedModel:
    return FusedModel.load(Path(directory) if directory else _unpacked(name))


def _unpacked(name: str) -> Path:
    """The archive's content in a folder of this user on this host; made by whichever worker comes first.

    Raises RuntimeError where the folder is another user's, or the archive holds another model.
    """
    cache = _private_folder()
    target = cache / name
    if not _holds(target, name):
        shutil.rmtree(target, ignore_errors=True)
        temporary = cache / f".{name}-{uuid.uuid4().hex}"
        try:
            with zipfile.ZipFile(SparkFiles.get(f"{name}.zip")) as archive:
                archive.extractall(temporary)
            if not _holds(temporary, name):
                raise RuntimeError(f"the archive {name}.zip holds another model than its name says")
            temporary.rename(target)
        except OSError:
            if not _holds(target, name):  # else another worker was first
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    os.utime(target)
    _prune(cache, target)
    return target


def _holds(target: Path, name: str) -> bool:
    """Is the model in `target` the one that `name` is the hash of; FusedModel.load checks the rest against that."""
    manifest = target / MANIFEST
    return manifest.is_file() and file_sha256(manifest) == name


def _private_folder() -> Path:
    """The cache of this user, which nobody else can write to."""
    folder = Path(tempfile.gettempdir()) / f"recsys_spark-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RuntimeError(f"{folder} is not a folder of this user; remove it")
    folder.chmod(0o700)
    return folder


def _prune(cache: Path, used: Path) -> None:
    """Remove all but the models used last. A file that another worker has mapped stays readable to it."""
    ages = {}
    for path in cache.iterdir():
        if path != used and not path.name.startswith("."):
            try:
                ages[path] = path.stat().st_mtime
            except FileNotFoundError:  # another worker prunes too
                continue
    for path in sorted(ages, key=lambda path: ages[path], reverse=True)[KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
