"""How a fused model reaches the tasks: as one archive named by its content, unpacked once on each host."""

from __future__ import annotations

import getpass
import os
import shutil
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


@dataclass(frozen=True)
class ShippedModel:
    """A reference that tasks turn into the model."""

    name: str
    """sha256 of the model's manifest."""
    directory: str | None
    """The model's directory, where tasks run on the driver's host; else it travels as the archive `<name>.zip`."""
    threads: int
    """Threads of a task's matrix products."""

    def load(self) -> FusedModel:
        """The model, loaded and checked once in each Python worker."""
        torch.set_num_threads(self.threads)
        return _load(self.name, self.directory)


def ship(spark: SparkSession, directory: Path) -> ShippedModel:
    """Make a model directory reachable from the tasks.

    On a local master tasks read it in place. Elsewhere it goes through Spark as an archive named by its hash: a changed
    file under an old name would be served stale, and a path is not assumed to be shared.
    """
    name = file_sha256(directory / MANIFEST)
    threads = int(spark.conf.get("spark.task.cpus", "1") or 1)
    if str(spark.sparkContext.master).startswith("local"):
        return ShippedModel(name, str(directory), threads)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / f"{name}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
            for path in sorted(directory.rglob("*")):
                if path.is_file():
                    target.write(path, path.relative_to(directory))
        # addFile copies now, so the temporary archive may go.
        spark.sparkContext.addFile(str(archive))
    return ShippedModel(name, None, threads)


@lru_cache(maxsize=2)
def _load(name: str, directory: str | None) -> FusedModel:
    return FusedModel.load(Path(directory) if directory else _unpacked(name))


def _unpacked(name: str) -> Path:
    """The archive's content in a folder of this user on this host; made by whichever worker comes first."""
    cache = Path(tempfile.gettempdir()) / f"recsys_spark-{getpass.getuser()}" / "models"
    target = cache / name
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = cache / f".{name}-{uuid.uuid4().hex}"
        with zipfile.ZipFile(SparkFiles.get(f"{name}.zip")) as archive:
            archive.extractall(temporary)
        try:
            os.rename(temporary, target)
        except OSError:  # another worker was first
            shutil.rmtree(temporary, ignore_errors=True)
    return target
