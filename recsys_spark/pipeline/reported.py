"""The reported metrics: what is read for them, and the tables that they are written to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as csv
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config import Config
from recsys_spark.datasets.split import TEST
from recsys_spark.evaluation.exposure import exposure_metrics
from recsys_spark.evaluation.item_facts import counts_before, item_facts
from recsys_spark.evaluation.logged import read_logged
from recsys_spark.evaluation.measures import Logged, Measuring
from recsys_spark.evaluation.passes import FactsAt, summed, users_with_lists
from recsys_spark.evaluation.results import COMPARISON_COLUMNS, METRIC_COLUMNS, SEGMENT_COLUMNS, Results
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.pipeline.fits import parameters_of
from recsys_spark.pipeline.keys import files_manifest
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.session import total_cores
from recsys_spark.tables.location import spark_path

if TYPE_CHECKING:
    from recsys_spark.tracking.runs import Tracker

ITEM_FACTS, EXPOSURES = "item_facts", "logged_exposures"
"""Folders of the run directory that hold what the pass reads, while it runs."""
USERS_A_TASK = 10_000


def logged_files(config: Config, tracker: Tracker) -> Any:
    """What the files of logged exposures are: part of the stage's key."""
    return files_manifest([config.evaluation.logged]) if config.evaluation.logged else None


def logged_exposures(context: StageContext) -> DataFrame | None:
    """user_id, item_index (-1 for an unknown item), rank, propensity, time of the exposures in the test window."""
    logged = context.config.evaluation.logged
    if logged is None:
        return None
    assert context.as_of is not None, "its inputs are dated"
    start = int(context.facts("build_datasets")["cut_times"]["test"])
    end = int(context.as_of.replace(tzinfo=UTC).timestamp())
    rows = read_logged(context.spark, logged, context.config.cleaning.item_ids, start, end)
    indexed = rows.join(context.read_table("items").select("item_id", "item_index"), on="item_id", how="left")
    columns = ("user_id", F.coalesce("item_index", F.lit(-1)).alias("item_index"), "rank", "propensity", "time")
    path = spark_path(context.run_directory / EXPOSURES)
    indexed.select(*columns).write.parquet(path)
    return context.spark.read.parquet(path)


def measured_users(context: StageContext, exposures: DataFrame | None) -> DataFrame:
    """Histories of the users who get test lists: with an event in the test window, or with a logged exposure there.

    Leaving out the exposed who did nothing would leave out the exposures without reward.
    """
    histories = context.read_table("histories")
    in_fold = F.array_contains("folds", TEST)
    if exposures is None:
        return histories.where(in_fold)
    exposed = exposures.select("user_id", F.lit(True).alias("_exposed")).distinct()
    chosen = histories.join(exposed, on="user_id", how="left").where(in_fold | F.col("_exposed").isNotNull())
    return chosen.select(*histories.columns)


def write_metrics(
    context: StageContext,
    users: DataFrame,
    lists: DataFrame,
    models: Sequence[str],
    challenger: str,
    items: int,
    exposures: DataFrame | None = None,
) -> Mapping[str, Any]:
    """Write evaluation_metrics, evaluation_segments and evaluation_comparisons from the lists of `measured_users`.

    `challenger` is the model that is compared with every other. Returns facts: where activity is divided, and what
    diversity is of.
    """
    metrics, results, told = metric_rows(context, users, lists, models, items, exposures)
    _write(context, "evaluation_metrics", metrics, METRIC_COLUMNS)
    _write(context, "evaluation_segments", [*results.segments()], SEGMENT_COLUMNS)
    _write(context, "evaluation_comparisons", [*results.comparisons(challenger)], COMPARISON_COLUMNS)
    return told


def metric_rows(
    context: StageContext,
    users: DataFrame,
    lists: DataFrame,
    models: Sequence[str],
    items: int,
    exposures: DataFrame | None = None,
) -> tuple[list[tuple[Any, ...]], Results, dict[str, Any]]:
    """Rows of METRIC_COLUMNS from the lists of `measured_users`, the results behind them, and facts.

    `items` is how many could be recommended. Tasks read item facts from the run directory, gone at the end.
    """
    config = context.config.evaluation
    measuring, facts, told = prepared(context, models)
    try:
        with_lists = users_with_lists(
            users, lists, context.read_table("items"), measuring, context.config.seed, exposures, _tasks(context)
        )
        sums = summed(with_lists, facts, measuring, config.bootstrap)
    finally:
        shutil.rmtree(context.run_directory / ITEM_FACTS, ignore_errors=True)
        shutil.rmtree(context.run_directory / EXPOSURES, ignore_errors=True)
    results = Results(sums, measuring, config.confidence)
    if exposures is not None:  # coverage is that of the users with an event in the window, as everything but ips is
        in_fold = context.read_table("histories").where(F.array_contains("folds", TEST)).select("user_id")
        lists = lists.join(in_fold, on="user_id", how="left_semi")
    return [*results.metrics(), *_spread(lists, results, items)], results, told


def _tasks(context: StageContext) -> int:
    """Tasks of the pass: as scoring has, and more where they would have many users."""
    users = context.inputs["build_datasets"].tables["histories"]
    return context.config.scoring.tasks or max(2 * total_cores(context.spark), users // USERS_A_TASK)


def _spread(lists: DataFrame, results: Results, items: int) -> list[tuple[Any, ...]]:
    """Rows of coverage and Gini, which are of all lists together and have no interval; no list covers nothing."""
    measuring = results.measuring
    found = {
        (row["model"], row["repeats"], row["metric"], row["k"]): row["value"]
        for row in exposure_metrics(lists, items, measuring.ks).collect()  # models x modes x k
    }
    for model in measuring.models:
        for mode in measuring.modes:
            for k in measuring.ks:
                found.setdefault((model, mode, "coverage", k), 0.0)
    return [
        (*key, value, None, None, results.users(key[1])) for key, value in found.items() if key[0] in measuring.models
    ]


def prepared(context: StageContext, models: Sequence[str]) -> tuple[Measuring, FactsAt, dict[str, Any]]:
    """What is measured, the item facts (written to the run directory), and what is to be told of both."""
    config = context.config.evaluation
    targets = tuple(code for code, name in enumerate(EVENT_TYPES) if name in config.target_events)
    histories = context.read_table("histories")
    vectors, alike = _vectors(context)
    path = context.run_directory / ITEM_FACTS
    frame = item_facts(context.read_table("items"), counts_before(histories, TEST, targets), vectors)
    frame.write.parquet(spark_path(path))
    activity = config.user_activity or _tertiles(histories)
    measuring = Measuring(
        models=tuple(models),
        modes=config.modes,
        ks=config.k,
        fold=TEST,
        targets=targets,
        cold_misses=config.cold == "miss",
        age_days=config.item_age_days,
        activity=tuple(activity),
        logged=None
        if config.logged is None
        else Logged(round(config.logged.within_hours * 3600), config.logged.clip, "rank" in config.logged.columns),
    )
    cut = int(context.facts("build_datasets")["cut_times"]["test"])
    facts = FactsAt(str(path.absolute()), cut, config.popularity_shares, config.item_age_days, vectors is not None)
    return measuring, facts, {"user_activity": list(activity), "diversity": alike}


def _vectors(context: StageContext) -> tuple[DataFrame | None, str]:
    """item_index and vector of the items that have one, and by what items are alike."""
    wanted = context.config.evaluation.similarity
    if wanted != "category":
        fit = parameters_of("test", context.config)
        rows = context.read_table("item_vectors").where(F.col("fit") == fit)
        vectors = rows.select("item_index", F.col(f"{wanted}_vector").alias("vector")).where(
            F.col("vector").isNotNull()
        )
        if vectors.head(1):
            return vectors, f"{wanted} vectors"
        context.progress(f"no item has a {wanted} vector: the diversity of lists is that of their categories")
    return None, "categories"


def _tertiles(histories: DataFrame) -> tuple[float, ...]:
    """Thirds of the test users by their events before the window (none: both are 1)."""
    events = F.size(F.filter("folds", lambda fold: fold < TEST)).alias("events")
    chosen = histories.where(F.array_contains("folds", TEST)).select(events).where(F.col("events") > 0)
    row = chosen.agg(F.percentile("events", [1 / 3, 2 / 3]).alias("edges")).first()
    return tuple(row["edges"]) if row is not None and row["edges"] else (1.0, 1.0)


def _write(context: StageContext, name: str, rows: list[Any], columns: str) -> None:
    """A small table, and the same as an artifact of the stage's run."""
    frame = context.spark.createDataFrame(sorted(rows, key=lambda row: tuple(map(str, row[:6]))), columns)
    context.write_table(name, frame.coalesce(1))
    path = context.run_directory / "evaluation" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    names = [column.split()[0] for column in columns.split(", ")]
    csv.write_csv(pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)}), path)
    context.tracked.log_artifact(path, "evaluation")
