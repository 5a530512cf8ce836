"""The origins of backtests: their windows, and a stage's context as it would have stood at one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.rules import Rules
from recsys_spark.datasets.histories import refolded
from recsys_spark.datasets.split import TEST, VALID, Cuts
from recsys_spark.errors import UserError
from recsys_spark.features.apply import ITEM_TABLES
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tables.location import spark_path
from recsys_spark.tables.schemas import TABLES

Place = Literal["select", "test"]
"""The fit whose place an origin takes in its context: its window is then the valid window, or the test window."""
AFTER = TEST + 1
"""The fold of events that come after all that is looked at."""


@dataclass(frozen=True)
class Origin:
    """A moment of recommendation in the past, and the window after it that is measured."""

    number: int
    """1 for the newest."""
    valid_start: int
    """The moment, in epoch seconds: parameters, features and histories are of before."""
    valid_end: int
    """End of the window, exclusive, in epoch seconds."""

    @property
    def name(self) -> str:
        """The name of its datasets."""
        return f"backtest-{self.number}"

    @property
    def fit(self) -> str:
        """What its fit is called in its features: a part of names of columns."""
        return f"backtest_{self.number}"

    @property
    def cuts(self) -> Cuts:
        """Its folds: train, valid, and as test all from the end of its window on."""
        return Cuts(as_of=self.valid_end, valid_start=self.valid_start, test_start=self.valid_end)

    def histories(self, table: DataFrame, place: Place = "select") -> DataFrame:
        """The table `histories` with the folds of the origin.

        What is after its window is test, and where the window itself takes the place of test, in no fold (AFTER).
        """
        own = refolded(table, self.cuts)
        if place == "select":
            return own
        moved = F.transform("folds", lambda fold: F.when(fold == VALID, TEST).when(fold == TEST, AFTER).otherwise(fold))
        return own.withColumn("folds", moved)


def origins_of(context: StageContext) -> list[Origin]:
    """The origins that build_datasets made datasets for, oldest first. Raises UserError where there is none."""
    told = context.facts("build_datasets")["backtests"]
    if not told:
        raise UserError(
            "split.backtests is 0, so there is no earlier origin; set it to their number (such as 3) and run "
            "jobs/build_datasets.py"
        )
    found = [
        Origin(int(name.rpartition("-")[2]), int(window["valid_start"]), int(window["valid_end"]))
        for name, window in told.items()
    ]
    return sorted(found, key=lambda origin: origin.valid_start)


def before(origin: Origin, origins: Sequence[Origin]) -> Origin | None:
    """The newest origin whose whole window ends by the moment of this one: what may be chosen on it is no foresight."""
    earlier = [other for other in origins if other.valid_end <= origin.valid_start]
    return max(earlier, key=lambda other: other.valid_start, default=None)


@dataclass(kw_only=True)
class OriginContext(StageContext):
    """A stage's context at an origin: what is asked of the fit in whose place it stands is answered for the origin.

    So whatever settles a fusion on a run's valid window, and whatever measures its test window, does it for an origin
    too. Business rules are left out, as they are from `fused`, and logged exposures are of another time.
    """

    origin: Origin
    place: Place
    features: Path
    """Version directory of the origin's features."""
    bundles: Mapping[str, Path]
    """Each recommender's bundle of the origin's fit."""

    @classmethod
    def of(
        cls,
        context: StageContext,
        origin: Origin,
        place: Place,
        features: Path,
        bundles: Mapping[str, Path],
        folder: str,
    ) -> Self:
        """The context with a new folder of its own within the run directory."""
        given = {each.name: getattr(context, each.name) for each in fields(StageContext)}
        evaluation = context.config.evaluation.model_copy(update={"logged": None})
        given |= {
            "config": context.config.model_copy(update={"evaluation": evaluation, "rules": Rules()}),
            "run_directory": context.new_directory(folder),
            "tables": {},
            "progress": lambda message: context.progress(f"{origin.name}: {message}"),
        }
        return cls(**given, origin=origin, place=place, features=features, bundles=bundles)

    def read_table(self, name: str) -> DataFrame:
        """Histories with the origin's folds; features of items by the origin's fit, named as the one it stands for."""
        if name == "histories":
            return self.origin.histories(super().read_table(name), self.place)
        if name in ITEM_TABLES:
            table = self.spark.read.schema(TABLES[name].schema).parquet(spark_path(self.features / name))
            refitted = self.place == "test" and self.config.evaluation.refit
            return table.withColumn("fit", F.lit("test" if refitted else "select"))
        return super().read_table(name)

    def facts(self, stage: str) -> Mapping[str, Any]:
        """What build_datasets told, with the origin's cuts."""
        told = super().facts(stage)
        if stage != "build_datasets":
            return told
        return {**told, "cut_times": {"test": self.origin.valid_end, self.place: self.origin.valid_start}}
