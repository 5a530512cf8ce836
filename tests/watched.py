"""A workspace to monitor, with tables published by hand: what stands in them is what a test says, nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from recsys_spark.config import Config
from recsys_spark.monitoring.context import MonitorContext
from recsys_spark.tables.pointer import Commit, publish
from recsys_spark.tables.schemas import TABLES
from recsys_spark.tables.workspace import Workspace

SOURCE = {
    "format": "csv",
    "path": "unused",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": "purchase",
}


class Watched:
    """A workspace whose stages publish what they are told to."""

    def __init__(self, spark: SparkSession, root: Path) -> None:
        self.spark = spark
        self.workspace = Workspace(str(root))

    def context(self, day: date, **settings: Any) -> MonitorContext:
        """What measures of that day are given; `settings` are sections of the configuration."""
        config = Config.model_validate({"source": SOURCE, "workspace": str(self.workspace.root), **settings})
        return MonitorContext(config, self.workspace, day, lambda: self.spark)

    def publish(
        self,
        stage: str,
        tables: Mapping[str, Sequence[Mapping[str, Any]]],
        as_of: datetime | None = None,
        published: datetime | None = None,
        **told: Any,
    ) -> Commit:
        """Publish tables of a stage, row by row (columns left out are null), on `published` by the clock (UTC).

        `told` are inputs, metrics and facts of the commit.
        """
        directory = self.workspace.new_run_directory(stage, "run")
        for name, rows in tables.items():
            write_rows(directory / name, name, rows)
        commit = publish(
            self.workspace.stage_directory(stage),
            stage,
            directory,
            key="key",
            run_id="run",
            tables={name: len(rows) for name, rows in tables.items()},
            inputs=told.get("inputs", {}),
            metrics=told.get("metrics", {}),
            facts=told.get("facts", {}),
            as_of=as_of.isoformat() if as_of else None,
        )
        if published is not None:
            pointer = self.workspace.stage_directory(stage) / "versions" / f"{commit.version:08d}.json"
            moment = published.replace(tzinfo=UTC).timestamp()
            os.utime(pointer, (moment, moment))
        return commit


def write_rows(directory: Path, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """One Parquet file of a table's schema."""
    schema = to_arrow_schema(TABLES[table].schema)
    columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
    arrays = [pa.array([_utc(value) for value in columns[field.name]], field.type) for field in schema]
    directory.mkdir(parents=True)
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), directory / "part-00000.parquet")
    (directory / "_SUCCESS").touch()


def lists_of(users: Mapping[str, Sequence[str]], component: str = "ease", reason: str = "") -> list[dict[str, Any]]:
    """Rows of the table recommendations: each user's items, best first."""
    return [
        {
            "user_id": user,
            "rank": rank,
            "item_id": item,
            "score": 1.0 / rank,
            "reason": reason,
            "components": {component: 1.0 / rank},
        }
        for user, items in users.items()
        for rank, item in enumerate(items, 1)
    ]


def _utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
