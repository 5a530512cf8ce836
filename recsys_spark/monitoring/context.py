"""What measures may look at: a day, the tables as of that day, and what was measured on the days before."""

from __future__ import annotations

import logging
import operator
import statistics
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property, reduce
from typing import TypeVar, cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.monitoring.finding import Finding, Group, Measure
from recsys_spark.monitoring.live import Live, live_lists, newest_lists
from recsys_spark.monitoring.measured import STAGE, read_findings
from recsys_spark.tables.location import spark_path
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.schemas import TABLES
from recsys_spark.tables.workspace import Workspace

log = logging.getLogger("recsys_spark")
Made = TypeVar("Made")

TRAINED, DATASETS = "train_models", "build_datasets"
LEAST_DAYS = 7
"""Earlier days from which a median of them says what is usual."""


@dataclass(frozen=True)
class Window:
    """Days from `first` up to `last`, which is not among them."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """How many."""
        return max((self.last - self.first).days, 0)


@dataclass(frozen=True)
class MonitorContext:
    """A day that is monitored. It is not changed; what it reads lazily it keeps."""

    config: Config
    workspace: Workspace
    day: date
    session: Callable[[], SparkSession]
    """Builds the session at first use."""

    @property
    def spark(self) -> SparkSession:
        """The Spark session."""
        return self.session()

    @property
    def start(self) -> datetime:
        """The day's first moment, UTC, naive, as `as_of` of commits is."""
        return datetime.combine(self.day, time())

    @property
    def end(self) -> datetime:
        """The first moment after the day."""
        return self.start + timedelta(days=1)

    @property
    def today(self) -> Window:
        """The day itself."""
        return Window(self.day, self.end.date())

    @property
    def reference(self) -> Window:
        """The days before it that it is compared with: `monitoring.reference_days`."""
        return Window(self.day - timedelta(days=self.config.monitoring.reference_days), self.day)

    @cached_property
    def training(self) -> Window | None:
        """The last `monitoring.training_days` days that the models in use learned from; None without datasets.

        Where models were trained before the day, the published ones learned from all events until then. Where only
        with the day's own events, or later (a day is looked at after the fact), it is compared with what the evaluated
        models learned from, as far as that lies before the day.
        """
        trained = self.commit(TRAINED, self.start)
        if trained is not None:
            end = trained.as_of
        else:
            datasets = self.commit(DATASETS) or self.workspace.latest(DATASETS)
            if datasets is None:
                return None
            end = datasets.facts["valid_start"]
        last = self.day if end is None else min(datetime.fromisoformat(end).date(), self.day)
        return Window(last - timedelta(days=self.config.monitoring.training_days), last)

    def commit(self, stage: str, by: datetime | None = None) -> Commit | None:
        """The newest version of a stage that was made from events before `by`, by default before the day's end.

        The newest by number: after a roll back it is the restored one. A version without a date (clean_events where
        days do not arrive one by one) counts as made for any day. None, where there is none.
        """
        until = (by or self.end).isoformat()
        fitting = [found for found in self.workspace.history(stage) if found.as_of is None or found.as_of <= until]
        return fitting[-1] if fitting else None

    @property
    def clean(self) -> Commit | None:
        """The newest clean_events whatever its date: what came late of the day is in it."""
        return self.workspace.latest("clean_events")

    @cached_property
    def lists(self) -> Commit | None:
        """The lists that were made with the day's events, at its end; after a roll back those that it restored."""
        return newest_lists(self.workspace, self.end)

    @cached_property
    def live(self) -> Live | None:
        """The lists that users saw on the day, made without its events."""
        return live_lists(self.workspace, self.day)

    def made_from(self, commit: Commit, stage: str) -> Commit | None:
        """The version of `stage` that a commit was made from, None where it is gone or not among its inputs."""
        version = commit.inputs.get(stage)
        if version is None:
            return None
        try:
            return self.workspace.version(stage, version)
        except UserError:
            return None

    def read(self, table: str, commit: Commit) -> DataFrame:
        """A table of a commit."""
        return self.workspace.read_table(self.spark, table, commit)

    def events(self, *windows: Window, complete: bool = True) -> DataFrame:
        """Clean events of the windows' days (those in several once), and of them what is as complete as this day is.

        Only files of these days are opened where days arrive one by one (files are named by day). With `complete`, rows
        are left out that arrived later after their own day than rows of the monitored day can have by now: else the
        days before would always have more than it. Raises UserError where nothing was cleaned.
        """
        commit = self.workspace.require("clean_events")
        paths = _files_of(commit, windows)
        spark = self.spark  # first of all: a table's schema asks for a session that is there
        schema = TABLES["clean_events"].schema
        if not paths:
            return spark.createDataFrame([], schema)
        frame = spark.read.schema(schema).parquet(*paths)
        days = [F.col("event_date").between(window.first, window.last - timedelta(days=1)) for window in windows]
        inside = frame.where(reduce(operator.or_, days))
        if commit.as_of is None or not complete:
            return inside
        horizon = max((_last_day(commit) - self.day).days, 0)
        delay = F.datediff("arrival_date", "event_date")
        return inside.where(F.col("arrival_date").isNull() | (delay <= horizon))

    def history(self, key: str) -> dict[str, list[tuple[date, float]]]:
        """Earlier values of a kind by subject, oldest first: those of the reference window that were measured."""
        found: dict[str, list[tuple[date, float]]] = {}
        for measure in (finding.measure for finding in self._measured):
            if measure.key == key and measure.value is not None:
                found.setdefault(measure.subject, []).append((measure.day, measure.value))
        return found

    def usual(self, key: str, subject: str = "") -> float | None:
        """The median of a kind's earlier values, None where fewer than LEAST_DAYS days have one."""
        values = [value for _, value in self.history(key).get(subject, ())]
        return statistics.median(values) if len(values) >= LEAST_DAYS else None

    def measure(
        self,
        group: Group,
        name: str,
        value: float | None,
        rows: int | None = None,
        *,
        subject: str = "",
        reference: float | None = None,
        detail: str = "",
    ) -> Measure:
        """A number of the monitored day."""
        return Measure(
            day=self.day,
            group=group,
            name=name,
            subject=subject,
            value=value,
            reference=reference,
            rows=rows,
            detail=detail,
        )

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What several groups need: made at the first call with this name, and kept."""
        if name not in self._kept:
            self._kept[name] = make()
        return cast(Made, self._kept[name])

    def persisted(self, frame: DataFrame) -> DataFrame:
        """The frame, kept by Spark until `close`."""
        self._closing.callback(frame.persist().unpersist)
        return frame

    def close(self) -> None:
        """Let go of what Spark keeps."""
        self._closing.close()

    def without(self, group: str, what: str) -> list[Measure]:
        """No measures, and a line that says what was missing."""
        log.info("%s: %s: not measured, %s", STAGE, group, what)
        return []

    @cached_property
    def _kept(self) -> dict[str, object]:
        return {}

    @cached_property
    def _closing(self) -> ExitStack:
        return ExitStack()

    @cached_property
    def _measured(self) -> list[Finding]:
        """What was measured in the reference window."""
        window = self.reference
        return read_findings(self.workspace.latest(STAGE), window.first, window.last - timedelta(days=1))


def _last_day(commit: Commit) -> date:
    """The last day whose events a dated commit can hold."""
    assert commit.as_of is not None, "asked only then"
    return (datetime.fromisoformat(commit.as_of) - timedelta(days=1)).date()


def _files_of(commit: Commit, windows: Iterable[Window]) -> list[str]:
    """The files that may hold events of the windows: those named by one of their days, and those that hold all days."""
    spans = [(window.first.isoformat(), window.last.isoformat()) for window in windows]
    labels = {path: path.name.partition(".")[0] for path in sorted(commit.path("clean_events").glob("*.parquet"))}
    return [
        spark_path(path)
        for path, label in labels.items()
        if not _is_day(label) or any(first <= label < last for first, last in spans)
    ]


def _is_day(label: str) -> bool:
    try:
        date.fromisoformat(label)
    except ValueError:
        return False
    return True
