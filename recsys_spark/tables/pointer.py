"""Numbered pointers to immutable run directories: what makes a publication atomic.

A writer fills a run directory of its own, and then links `versions/00000007.json` into place if no such file exists. A
reader takes the highest number. So it sees the old version or the new one, whole, and never something between.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys_spark.errors import UserError
from recsys_spark.json_files import read_object
from recsys_spark.tables.files import write_synced


class OvertakenError(UserError):
    """Another writer published while this one extended the version before."""


@dataclass(frozen=True)
class Fence:
    """What a writer needs besides, to publish: as long as it holds the lock of the workspace."""

    staging: Path
    """Where its pointers are written before they are linked; whoever takes the lock over removes the folder."""
    check: Callable[[], None]
    """Raises where the lock is lost."""


@dataclass(frozen=True)
class Commit:
    """A committed version of a stage's outputs."""

    stage: str
    version: int
    """1, 2, 3, ... within the stage."""
    key: str
    """sha256 of everything that the outputs were made from."""
    run_id: str
    directory: str
    """Absolute path of the run directory."""
    tables: Mapping[str, int]
    """Rows of each table in it."""
    inputs: Mapping[str, int] = field(default_factory=dict)
    """Upstream stage to the version that was read."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What later stages need to know, as JSON."""
    as_of: str | None = None
    """Exclusive upper bound of the events, ISO 8601, UTC."""

    def path(self, name: str) -> Path:
        """The path of an output."""
        return Path(self.directory) / name


def commits(stage_directory: Path, stage: str) -> list[Commit]:
    """All committed versions of a stage, oldest first."""
    return [read_commit(path, stage) for path in _pointers(stage_directory)]


def latest_commit(stage_directory: Path, stage: str) -> Commit | None:
    """The newest committed version, or None where there is none."""
    pointers = _pointers(stage_directory)
    return read_commit(pointers[-1], stage) if pointers else None


def read_commit(pointer: Path, stage: str) -> Commit:
    """Parse a pointer file. Raises UserError where it is damaged."""
    try:
        content = read_object(pointer)
        # Run directories are written relative to the stage, so that a workspace may be moved as a whole.
        content["directory"] = str(pointer.parent.parent / content["directory"])
        return Commit(stage=stage, version=int(pointer.stem), **content)
    except (ValueError, KeyError, TypeError):
        raise UserError(f"pointer {pointer}: not a commit of this program; restore or remove it") from None


def publish(
    stage_directory: Path,
    stage: str,
    run_directory: Path,
    *,
    key: str,
    run_id: str,
    tables: Mapping[str, int],
    inputs: Mapping[str, int],
    metrics: Mapping[str, float],
    facts: Mapping[str, Any],
    as_of: str | None,
    after: int | None = None,
    fence: Fence | None = None,
) -> Commit:
    """Make a finished run directory the stage's newest version.

    The pointer is written to a temporary file, synced and hard-linked under the next free number (put-if-absent), so a
    pointer is never empty and two writers never share a number. With `after` the new version must follow that one:
    where another writer came between, OvertakenError is raised and nothing is published; where `fence` does not hold
    any more, its error is. Returns the commit.
    """
    content = {
        "key": key,
        "run_id": run_id,
        "directory": str(run_directory.relative_to(stage_directory)),
        "tables": dict(tables),
        "inputs": dict(inputs),
        "metrics": dict(metrics),
        "facts": dict(facts),
        "as_of": as_of,
    }

    def check(newest: int) -> None:
        if after is not None and newest != after:
            said = f"{stage}: version {newest} was published while this run extended {after}; run it again"
            raise OvertakenError(said)

    text = json.dumps(content, indent=1, sort_keys=True)
    return read_commit(link_next(stage_directory / "versions", text, check, fence), stage)


def link_next(
    folder: Path, text: str, check: Callable[[int], None] = lambda newest: None, fence: Fence | None = None
) -> Path:
    """Put `text` into `folder` as the file of the next free number, whole and synced (put-if-absent); returns it.

    `check(newest)` is asked with the highest number so far before each try, and may refuse by raising, as may `fence`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fence is not None:
        fence.check()
    temporary = (folder if fence is None else fence.staging) / f".{uuid.uuid4().hex}.tmp"
    try:
        write_synced(temporary, text)
        while True:
            newest = max((int(path.stem) for path in _numbered(folder)), default=0)
            check(newest)
            target = folder / f"{newest + 1:08d}.json"
            try:
                os.link(temporary, target)
            except FileExistsError:
                continue  # another writer took the number: take the next
            break
    except FileNotFoundError:
        if fence is not None:
            fence.check()  # the lock was lost meanwhile, and the staging folder with it
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(folder)
    return target


def sync_tree(directory: Path) -> None:
    """Flush every file and folder below `directory` to disk, so that a pointer never outlives what it names."""
    for path in (directory, *sorted(directory.rglob("*"))):
        if path.is_dir():
            sync_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _pointers(stage_directory: Path) -> list[Path]:
    return _numbered(stage_directory / "versions")


def _numbered(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.json"))


def sync_directory(directory: Path) -> None:
    """Flush a folder's entries to disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
