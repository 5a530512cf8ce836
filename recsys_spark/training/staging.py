"""Where a process finds the dataset on its own host."""

from __future__ import annotations

from pathlib import Path


def stage_locally(path: str) -> str:
    """The path of the dataset on this host: the same path where the host shares it.

    Copying a process's row groups into a local cache belongs here. Raises RuntimeError where the path is not there.
    """
    if not Path(path).is_dir():
        raise RuntimeError(f"dataset {path} is not on this host; put the workspace on storage that every worker mounts")
    return path
