"""The workspace: where stages keep their committed versions, and how tables are read from them."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.errors import UserError
from recsys_spark.tables.location import spark_path
from recsys_spark.tables.pointer import Commit, Fence, commits, latest_commit
from recsys_spark.tables.schemas import TABLES

GRACE_SECONDS = 24 * 3600
"""A version that was superseded, or a run directory that was touched, less long ago than this is never removed."""
SCRATCH_SECONDS = 7 * 24 * 3600
"""What a run that died left for the next one is removed when nobody touched it for so long."""


class Workspace:
    """A folder below which everything that jobs write lives: local, or on a file system that every host mounts."""

    def __init__(self, root: str) -> None:
        if re.match(r"^(?!file:)[a-zA-Z][a-zA-Z0-9+.-]+:", root):
            raise UserError(f"workspace {root}: must be a local or mounted folder; mount the store and name its path")
        self.root = Path(root.removeprefix("file://").removeprefix("file:")).expanduser().absolute()
        self.fence: Fence | None = None
        """The lock under which this process publishes, where it holds one."""

    def check(self) -> None:
        """Raises UserError where the folder cannot be written to, or has no hard links to publish with."""
        probe = self.root / f".probe-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            os.link(probe, probe.with_suffix(".link"))
        except OSError as error:
            raise UserError(
                f"workspace {self.root}: must be a writable file system with hard links ({error.strerror})"
            ) from None
        finally:
            for path in (probe, probe.with_suffix(".link")):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def check_held(self) -> None:
        """Raises where this process held the lock of the workspace, and does so no more."""
        if self.fence is not None:
            self.fence.check()

    def stage_directory(self, stage: str) -> Path:
        """The folder of a stage's versions and runs."""
        return self.root / "stages" / stage

    def new_run_directory(self, stage: str, run_id: str) -> Path:
        """A new, empty run directory of a stage."""
        directory = self.stage_directory(stage) / "runs" / f"{run_id[:12]}-{uuid.uuid4().hex[:8]}"
        directory.mkdir(parents=True)
        return directory

    @property
    def scratch(self) -> Path:
        """The folder in which a job keeps, by what it is made from, what the next run goes on from if it dies."""
        return self.root / "scratch"

    def latest(self, stage: str) -> Commit | None:
        """The newest committed version of a stage, or None."""
        return latest_commit(self.stage_directory(stage), stage)

    def require(self, stage: str) -> Commit:
        """The newest committed version of a stage. Raises UserError where there is none."""
        commit = self.latest(stage)
        if commit is None:
            job = stage.partition(".")[0]
            raise UserError(f"workspace {self.root}: nothing published by {job}; run jobs/{job}.py first")
        return commit

    def history(self, stage: str) -> list[Commit]:
        """All committed versions of a stage that were kept, oldest first."""
        return commits(self.stage_directory(stage), stage)

    def version(self, stage: str, version: int) -> Commit:
        """A certain committed version. Raises UserError where it was removed."""
        for commit in commits(self.stage_directory(stage), stage):
            if commit.version == version:
                return commit
        raise UserError(f"workspace {self.root}: version {version} of {stage} is gone; run the job again")

    def same(self, commit: Commit, version: int) -> bool:
        """Was another version of the commit's stage made from the same by the same. False where it is gone."""
        if commit.version == version:
            return True
        try:
            return self.version(commit.stage, version).key == commit.key
        except UserError:
            return False

    def published(self, commit: Commit) -> datetime:
        """When a commit was published, by the clock of its writer: that of its pointer, UTC, naive as `as_of` is.

        A workspace that was copied without the times of its files says when it was copied.
        """
        written = self._pointer(commit.stage, commit.version).stat().st_mtime
        return datetime.fromtimestamp(written, UTC).replace(tzinfo=None)

    def table_commit(self, name: str) -> Commit:
        """The newest commit that publishes a table. Raises UserError for an unknown or unpublished one."""
        if name not in TABLES:
            raise UserError(f"table {name}: unknown; known are {', '.join(sorted(TABLES))}")
        return self.require(TABLES[name].stage)

    def read_table(self, spark: SparkSession, name: str, commit: Commit | None = None) -> DataFrame:
        """A table of a commit, by default the newest one."""
        commit = commit or self.table_commit(name)
        return spark.read.schema(TABLES[name].schema).parquet(spark_path(commit.path(name)))

    def prune(self, keep: int, pinned: Iterable[tuple[str, int]] = ()) -> list[Path]:
        """Remove old versions of every stage; returns the run directories that went.

        Kept are the newest `keep` versions of each stage, the pinned ones, every version that a kept one was made from,
        and whatever was superseded within GRACE_SECONDS, since a reader may still be in it.
        """
        removed = self._remove_stale_scratch()
        if not (self.root / "stages").is_dir():
            return removed
        history = {path.name: commits(path, path.name) for path in (self.root / "stages").iterdir()}
        kept = {(stage, commit.version) for stage, all_ in history.items() for commit in all_[-keep:]}
        kept |= set(pinned)
        grown = True
        while grown:
            needed = {
                (upstream, version)
                for stage, all_ in history.items()
                for commit in all_
                if (stage, commit.version) in kept
                for upstream, version in commit.inputs.items()
            }
            grown = not needed <= kept
            kept |= needed
        for stage, all_ in history.items():
            for commit, successor in pairwise(all_):
                pointer = self._pointer(stage, successor.version)
                if (stage, commit.version) not in kept and time.time() - pointer.stat().st_mtime > GRACE_SECONDS:
                    self._pointer(stage, commit.version).unlink()
                    shutil.rmtree(commit.directory, ignore_errors=True)
                    removed.append(Path(commit.directory))
            removed += self._remove_abandoned(stage, {commit.directory for commit in all_})
        return removed

    def _remove_abandoned(self, stage: str, committed: set[str]) -> list[Path]:
        """Run directories of writers that died before their commit."""
        abandoned = [
            path
            for path in (self.stage_directory(stage) / "runs").glob("*")
            if str(path) not in committed and time.time() - path.stat().st_mtime > GRACE_SECONDS
        ]
        for path in abandoned:
            shutil.rmtree(path, ignore_errors=True)
        return abandoned

    def _remove_stale_scratch(self) -> list[Path]:
        """What dead runs left and nobody went on from."""
        stale = [path for path in self.scratch.glob("*") if time.time() - path.stat().st_mtime > SCRATCH_SECONDS]
        for path in stale:
            shutil.rmtree(path, ignore_errors=True)
        return stale

    def _pointer(self, stage: str, version: int) -> Path:
        return self.stage_directory(stage) / "versions" / f"{version:08d}.json"
