"""A stage: one arrow of the flow, with what it reads, writes and depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from recsys_spark.config import Config
from recsys_spark.tables.links import link_tree
from recsys_spark.tables.location import spark_path
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.schemas import TABLES
from recsys_spark.tables.workspace import Workspace

if TYPE_CHECKING:
    from recsys_spark.tracking.runs import TrackedRun, Tracker

FILES = "files"
"""The fact that names the outputs that are no tables and yet stand in the job's JSON line."""


@dataclass(frozen=True)
class StageResult:
    """What a stage tells besides its outputs."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def always(config: Config) -> bool:
    """Whatever the configuration."""
    return True


def never(config: Config) -> bool:
    """Whatever the configuration."""
    return False


@dataclass(frozen=True)
class Stage:
    """An arrow of the flow."""

    name: str
    upstream: tuple[str, ...]
    """Stages whose newest commits it reads."""
    config_keys: tuple[str, ...]
    """Dotted keys of the configuration that its outputs depend on."""
    run: Callable[[StageContext], StageResult]
    reads_source: bool = False
    """Does it read the configured source and catalogue: their files are then part of its key."""
    dated: Callable[[Config], bool] = always
    """Do its outputs depend on the run's date."""
    append_only: Callable[[Config], bool] = never
    """Do its outputs extend those of its newest version: it then publishes as the very next version or not at all."""
    reads: Callable[[Config, Tracker, Workspace], Mapping[str, int]] | None = None
    """Versions of upstream stages that it reads where these are not the newest ones."""
    day: Literal["agreed", "inputs", "given"] = "agreed"
    """Whose date it has. `agreed`: that of the run and that of its inputs, which must be the same; `inputs`: theirs,
    whatever date the run was given, as also where `reads` names versions; `given`: the run's, whatever theirs is."""
    follows: Callable[[Config, Tracker], Any] | None = None
    """What in the registry its outputs depend on, as JSON: part of its key."""


@dataclass
class StageContext:
    """What a running stage may touch."""

    stage: str
    config: Config
    workspace: Workspace
    as_of: datetime | None
    """Exclusive upper bound of the events, UTC; None where no date was given and no events were read yet."""
    run_id: str
    inputs: Mapping[str, Commit]
    run_directory: Path
    session: Callable[[], SparkSession]
    """Builds the session at first use."""
    progress: Callable[[str], None]
    tracker: Tracker
    """MLflow."""
    tracked: TrackedRun
    """The stage's MLflow run."""
    run_part: Callable[[Stage], Commit]
    """Runs a part of this stage as a stage of its own, unless its newest commit is still true."""
    force: bool = False
    """Was the run told to do again what did not change."""
    tables: dict[str, int] = field(default_factory=dict)
    """Rows of each table written so far."""

    @property
    def spark(self) -> SparkSession:
        """The Spark session."""
        return self.session()

    def read_table(self, name: str) -> DataFrame:
        """A table of an upstream stage's committed version."""
        return self.workspace.read_table(self.spark, name, self.inputs[TABLES[name].stage])

    @property
    def previous(self) -> Commit | None:
        """The stage's newest committed version, or None before the first."""
        return self.workspace.latest(self.stage)

    def previous_table(self, name: str) -> DataFrame | None:
        """The table in this stage's newest committed version, or None before the first."""
        commit = self.previous
        return None if commit is None else self.workspace.read_table(self.spark, name, commit)

    def facts(self, stage: str) -> Mapping[str, Any]:
        """What an upstream stage told."""
        return self.inputs[stage].facts

    def directory(self, name: str, stage: str | None = None) -> Path:
        """A directory output of an upstream stage: the only one that has it, unless the stage is named."""
        for upstream in (stage,) if stage else tuple(self.inputs):
            path = self.inputs[upstream].path(name)
            if path.is_dir():
                return path
        raise FileNotFoundError(f"{self.stage}: no upstream stage has an output {name}")

    def new_directory(self, name: str) -> Path:
        """An empty directory for an output that is not a table."""
        path = self.run_directory / name
        path.mkdir(parents=True)
        return path

    def write_table(self, name: str, frame: DataFrame) -> int:
        """Write a table of this stage and verify it; returns its rows."""
        TABLES[name].select(frame).write.parquet(spark_path(self._new_table(name)))
        return self._verified(name)

    def new_table_directory(self, name: str) -> Path:
        """An empty directory for a table of this stage whose files tasks write themselves, flat, as Parquet."""
        path = self._new_table(name)
        path.mkdir(parents=True)
        return path

    def finish_table(self, name: str) -> int:
        """Verify a table that was written into `new_table_directory`; returns its rows.

        A table without a row gets one empty file, since readers ask for a schema.
        """
        path = self.run_directory / name
        if not any(path.glob("*.parquet")):
            schema = to_arrow_schema(TABLES[name].schema)
            pq.write_table(schema.empty_table(), path / "empty.parquet")
        (path / "_SUCCESS").touch()
        return self._verified(name)

    def link_tables(self, commit: Commit) -> None:
        """Take over all tables of a commit of this stage, without copying them."""
        for name, rows in commit.tables.items():
            link_tree(commit.path(name), self._new_table(name))
            self.tables[name] = rows

    def _new_table(self, name: str) -> Path:
        owner = TABLES[name].stage
        assert owner == self.stage, f"{name} belongs to {owner}, not to {self.stage}"
        return self.run_directory / name

    def _verified(self, name: str) -> int:
        columns = [field.name for field in TABLES[name].schema]
        self.tables[name] = verified_rows(self.run_directory / name, columns)
        return self.tables[name]

    def written_table(self, name: str) -> DataFrame:
        """A table that this stage has written already, read back: it is computed once, however often it is used."""
        return self.spark.read.schema(TABLES[name].schema).parquet(spark_path(self.run_directory / name))


def verified_rows(path: Path, columns: list[str]) -> int:
    """Rows of a written Parquet directory, from its footers, after checking that Spark finished it with our columns."""
    if not (path / "_SUCCESS").exists():
        raise OSError(f"table {path}: Spark did not finish writing it")
    rows = 0
    for file in path.glob("*.parquet"):
        footer = pq.read_metadata(file)
        names = footer.schema.to_arrow_schema().names
        if names != columns:
            raise OSError(f"table {file}: has columns {names}, not {columns}")
        rows += footer.num_rows
    return rows
