"""Where a process finds the files of the dataset on its own host."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from recsys_spark.tables.files import new_file

REMOTE = ("nfs", "cifs", "smb", "fuse", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "ocfs2", "gfs2")
"""How the names of file systems begin that read over a network."""
UNUSED_SECONDS = 24 * 3600
"""Copies that no training used for so long are removed."""


class LocalFiles:
    """A dataset's files as this host reads them: in place, or copied once into a local cache.

    They are copied where `cache_dir` is set or the dataset stands on a network's file system. A copy is put in place
    whole, is keyed by the dataset's version, and is removed a day after its last use by any later training.
    """

    def __init__(self, dataset: str, version: str, cache_dir: str | None) -> None:
        self.root = Path(dataset)
        if not self.root.is_dir():
            raise RuntimeError(
                f"dataset {dataset} is not on this host; put the workspace on storage that every worker mounts"
            )
        self._cache: Path | None = None
        if cache_dir or is_remote(self.root):
            # A folder of our own, since what stands in it unused is removed.
            place = Path(cache_dir or tempfile.gettempdir()).expanduser() / f"recsys_spark-datasets-{os.getuid()}"
            key = hashlib.sha256(f"{version}\n{self.root.absolute()}".encode()).hexdigest()[:24]
            self._cache = place / key
            self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.utime(self._cache)
            _remove_unused(place, keep=self._cache)

    def local(self, files: Sequence[Path]) -> list[Path]:
        """The files to read for these of the dataset; copies those that are not here yet."""
        if self._cache is None:
            return list(files)
        os.utime(self._cache)
        return [_copied(file, self._cache / file.relative_to(self.root)) for file in files]


def is_remote(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Does the path stand on a file system that is read over a network; False where the host does not say."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return False
    place = path.resolve()
    above = [(point, kind) for _, point, kind, *_ in lines if place.is_relative_to(point.replace("\\040", " "))]
    return bool(above) and max(above, key=lambda mount: len(mount[0]))[1].startswith(REMOTE)


def _copied(file: Path, local: Path) -> Path:
    if not local.exists() or local.stat().st_size != file.stat().st_size:
        local.parent.mkdir(parents=True, exist_ok=True)
        with new_file(local) as copy:
            shutil.copyfile(file, copy)
    return local


def _remove_unused(place: Path, keep: Path) -> None:
    for path in place.iterdir():
        with suppress(OSError):  # another process removes it too
            if path != keep and path.is_dir() and time.time() - path.stat().st_mtime > UNUSED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
