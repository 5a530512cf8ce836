"""Tables that grow by micro-batches: a directory a batch, which appears whole or not at all, and never changes.

Below `<root>/<thousand>/<number>` lie the batch's Parquet files, one a table that has rows, and `batch.json`, which
says what became of its rows. The numbers 1, 2, 3, ... are the order in which batches were taken in.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.errors import UserError
from recsys_spark.tables.pointer import sync_directory, sync_tree
from recsys_spark.tables.schemas import LIVE, TABLES

FACTS = "batch.json"
TOGETHER = 1000
"""Batches that lie in one folder."""


@dataclass(frozen=True)
class Batch:
    """A batch that was written."""

    number: int
    directory: Path
    facts: Mapping[str, Any]
    """What became of its rows, and what the next one must know."""

    def table(self, name: str) -> pa.Table:
        """The batch's rows of a table."""
        schema = TABLES[name].arrow_schema
        file = self.directory / f"{name}.parquet"
        return pq.read_table(file, schema=schema, partitioning=None) if file.exists() else schema.empty_table()


class BatchLog:
    """All batches below a folder; one process writes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def newest(self) -> Batch | None:
        """The batch of the highest number, None where there is none."""
        return next(self.backwards(), None)

    def backwards(self) -> Iterator[Batch]:
        """The batches, the newest first."""
        for folder in reversed(self._folders()):
            for path in reversed(_batches(folder)):
                yield self.read(_number(path))

    def after(self, number: int) -> Iterator[Batch]:
        """The batches of higher numbers, in their order."""
        for folder in self._folders():
            if (_number(folder) + 1) * TOGETHER > number:
                for path in _batches(folder):
                    if _number(path) > number:
                        yield self.read(_number(path))

    def read(self, number: int) -> Batch:
        """A batch. Raises UserError where it is not there, or its facts cannot be read."""
        directory = self._directory(number)
        try:
            facts = json.loads((directory / FACTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UserError(f"batch {directory}: {FACTS} is missing or damaged; restore the folder") from None
        return Batch(number, directory, facts)

    def add(self, number: int, tables: Mapping[str, pa.Table], facts: Mapping[str, Any]) -> bool:
        """Write a batch, synced to disk; False, and no change, where its number is taken. Empty tables get no file."""
        target = self._directory(number)
        temporary = self.root / f".{number}-{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        try:
            for name, table in tables.items():
                if table.num_rows:
                    schema = TABLES[name].arrow_schema
                    rows = table.select(schema.names).cast(schema)
                    pq.write_table(rows, temporary / f"{name}.parquet", compression="zstd")
            (temporary / FACTS).write_text(json.dumps(facts, sort_keys=True), encoding="utf-8")
            sync_tree(temporary)
            if not target.parent.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                sync_directory(self.root)
            try:
                os.rename(temporary, target)  # refused where the target has files in it
            except OSError:
                if target.is_dir():
                    return False
                raise
            sync_directory(target.parent)
            return True
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed writers left: called by the one process that writes."""
        for path in self.root.glob(".*-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _directory(self, number: int) -> Path:
        return self.root / f"{number // TOGETHER:06d}" / f"{number:09d}"

    def _folders(self) -> list[Path]:
        return sorted(self.root.glob("[0-9]*"))


def batches_of(root: Path) -> BatchLog:
    """The batches of the workspace `root`."""
    return BatchLog(root / "online" / "batches")


def live_path(root: Path, name: str) -> str:
    """Where readers find a table of the stage LIVE in the workspace `root`: a glob over its batches."""
    assert TABLES[name].stage == LIVE
    return str(batches_of(root).root / "*" / "*" / f"{name}.parquet")


def _batches(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*"))


def _number(path: Path) -> int:
    return int(path.name)
