"""Tables to which rows are only ever added, without Spark: decisions, runs of jobs, what became of alerts.

Each is small enough to be written anew with every version: a row a decision, a run, an alert. Rows are numbered by the
table's key, from 000001 on.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.tables.pointer import Commit, Fence, OvertakenError, publish, sync_tree
from recsys_spark.tables.schemas import TABLES
from recsys_spark.tables.workspace import Workspace

Rows = Sequence[Mapping[str, Any]]
"""Values by column, without the number."""


def read_rows(commit: Commit | None, table: str) -> list[dict[str, Any]]:
    """All rows of a committed version, oldest first; none before the first."""
    return _read(commit, table).to_pylist()


def add_rows(previous: Commit | None, table: str, target: Path, rows: Rows) -> int:
    """Write the rows of the version before and then these into the new directory `target`; returns how many in all."""
    before = _read(previous, table)
    [key] = TABLES[table].key
    numbered = [{**row, key: f"{before.num_rows + number:06d}"} for number, row in enumerate(rows, 1)]
    both = pa.concat_tables([before, pa.Table.from_pylist(numbered, before.schema)])
    target.mkdir(parents=True)
    pq.write_table(both, target / "part-00000.parquet")
    (target / "_SUCCESS").touch()
    return both.num_rows


def publish_rows(workspace: Workspace, table: str, rows: Rows, run_id: str, fence: Fence | None) -> Commit:
    """Publish a stage that is this table alone, as the very next version with these rows added.

    Raises OvertakenError where another writer came between: then nothing is published, and nothing stays.
    """
    stage = TABLES[table].stage
    before = workspace.latest(stage)
    directory = workspace.new_run_directory(stage, uuid.uuid4().hex)
    total = add_rows(before, table, directory / table, rows)
    sync_tree(directory)
    try:
        return publish(
            workspace.stage_directory(stage),
            stage,
            directory,
            key=f"{total:06d}",
            run_id=run_id,
            tables={table: total},
            inputs={},
            metrics={},
            facts={},
            as_of=None,
            after=before.version if before else 0,
            fence=fence,
        )
    except OvertakenError:
        shutil.rmtree(directory)
        raise


def _read(commit: Commit | None, table: str) -> pa.Table:
    schema = TABLES[table].arrow_schema
    if commit is None:
        return schema.empty_table()
    return pq.read_table(sorted(commit.path(table).glob("*.parquet"))).cast(schema)
