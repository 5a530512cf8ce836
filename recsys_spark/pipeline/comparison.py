"""Challenger and champion measured on one window, without either having seen it.

What is compared are the two recipes as their test fits: parameters, weights and settings from before the window. The
champion's own were kept by its evaluate_models, so it is as much older than the challenger's as it is in production.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.sections import Repeats
from recsys_spark.datasets.split import TEST, iso
from recsys_spark.errors import UserError
from recsys_spark.evaluation.exposure import exposure_metrics
from recsys_spark.evaluation.measures import ACTIVITY
from recsys_spark.evaluation.passes import summed, users_with_lists
from recsys_spark.evaluation.results import POPULARITY, Results
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import read_settings
from recsys_spark.pipeline.fits import moment_of, parameters_of
from recsys_spark.pipeline.passes import FUSED
from recsys_spark.pipeline.reported import ITEM_FACTS, prepared
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.promotion.gates import Difference, Latency, ListFacts, Measured, SegmentValue
from recsys_spark.promotion.latency import latencies
from recsys_spark.recommenders.histories import raw_history
from recsys_spark.scoring.blocks import spread
from recsys_spark.scoring.evaluate import evaluation_rows
from recsys_spark.scoring.shipping import ship
from recsys_spark.tables.location import spark_path
from recsys_spark.tables.pointer import Commit
from recsys_spark.tracking.aliases import CHALLENGER, CHAMPION, Registered, model_directory

REPLICATES = 1000
"""Of the bootstrap, where `evaluation.bootstrap` is off: a gate needs an interval."""
EVALUATED, SPLIT = "evaluate_models", "build_datasets"


def measure(context: StageContext, challenger: Registered, champion: Registered | None) -> Measured:
    """Everything that the gates look at, for lists of `promotion.k` items as `fusion.repeats` publishes them."""
    config = context.config
    k = config.promotion.k or config.evaluation.k[0]
    modes = config.evaluation.modes
    mode = config.fusion.repeats if config.fusion.repeats in modes else modes[0]
    theirs, why = champion_lists(context, champion, mode, k) if champion else (None, "there is no champion yet")
    lists = _own_lists(context, mode)
    models = [CHALLENGER, *([POPULARITY] if POPULARITY in config.models else [])]
    if theirs is not None:
        models.append(CHAMPION)
        lists = lists.unionByName(theirs)
    lists = lists.where((F.col("rank") <= k) & F.col("model").isin(models))
    results = _results(context, lists, models, mode, k)
    facts = _facts(context, lists, results, models, k)
    against = {
        row[1]: Difference(row[5], row[6], row[7])
        for row in _ndcg(results.comparisons(CHALLENGER))
        if row[6] is not None
    }
    own, other = _latencies(context, challenger, champion, k, mode)
    return Measured(
        k=k,
        challenger=facts[CHALLENGER],
        evaluated=results.users(mode),
        champion=facts.get(CHAMPION),
        no_champion=why,
        incomparable=champion is not None and theirs is None,
        against_champion=against.get(CHAMPION),
        against_popularity=against.get(POPULARITY),
        challenger_latency=own,
        champion_latency=other,
    )


def champion_lists(context: StageContext, champion: Registered, mode: Repeats, k: int) -> tuple[DataFrame | None, str]:
    """The champion's lists for the window, under the model's name `champion`; or None, and why there are none.

    Where both were evaluated on one split they are those that its own run published. Else its frozen test fit scores
    the window's users, unless it was fitted or chosen on events at or after the window's start.
    """
    who = f"champion {champion.name}/{champion.version}"
    try:
        evaluated = context.workspace.version(EVALUATED, champion.pins.get(EVALUATED, 0))
        split = context.workspace.version(SPLIT, champion.pins.get(SPLIT, 0))
    except UserError:
        return None, f"{who}: what it was evaluated from is not in this workspace any more; {_ADVICE}"
    if champion.tags.get("evaluation_run_id") != evaluated.run_id:
        return None, f"{who} was evaluated in another workspace; {_ADVICE}"
    own = context.inputs[SPLIT]
    if all(split.facts[fact] == own.facts[fact] for fact in ("versions", "cut_times", "test_start")):
        kept = _kept_lists(context, evaluated, mode, k)
        if kept is not None:
            context.progress(f"{who} was evaluated on the same split: its lists are those of that run")
            return kept, ""
    elif split.facts["test_start"] is None or own.facts["test_start"] is None:
        return None, f"{who} was evaluated on another split, and leave_one_out has no window in time; {_ADVICE}"
    seen, start = int(split.facts["cut_times"]["test"]), int(own.facts["cut_times"]["test"])
    if seen > start:
        return None, (
            f"{who} was fitted and chosen on events until {iso(seen)}, and the test window starts at {iso(start)}: "
            f"it saw what it would be measured on; use a later --date, or {_ADVICE}"
        )
    if not evaluated.path("model-test").is_dir():
        return None, f"{who}: its test fit was not kept; {_ADVICE}"
    context.progress(f"{who}: its test fit of {iso(seen)} scores the window that starts at {iso(start)}")
    return _scored_again(context, evaluated, mode, k), ""


_ADVICE = "set promotion.incomparable=skip to decide without it"


def _own_lists(context: StageContext, mode: Repeats) -> DataFrame:
    """The challenger's and popularity's lists, as evaluate_models published them."""
    lists = context.read_table("evaluation_recommendations").where(F.col("repeats") == mode)
    renamed = F.when(F.col("model") == FUSED, CHALLENGER).otherwise(F.col("model"))
    return lists.where(F.col("model").isin(FUSED, POPULARITY)).withColumn("model", renamed)


def _kept_lists(context: StageContext, evaluated: Commit, mode: Repeats, k: int) -> DataFrame | None:
    """The lists of the champion's own run, where they are of this mode and long enough."""
    table = context.workspace.read_table(context.spark, "evaluation_recommendations", evaluated)
    lists = table.where((F.col("model") == FUSED) & (F.col("repeats") == mode))
    longest = lists.agg(F.max("rank").alias("rank")).first()
    if longest is None or (longest["rank"] or 0) < k:
        return None
    return lists.withColumn("model", F.lit(CHAMPION))


def _scored_again(context: StageContext, evaluated: Commit, mode: Repeats, k: int) -> DataFrame:
    settings = read_settings(evaluated.path("fusion"))
    users = context.read_table("histories").where(F.array_contains("folds", TEST))
    rows = evaluation_rows(
        spread(context.spark, users, context.config.scoring.tasks),
        ship(context.spark, evaluated.path("model-test")),
        moment_of("test", context),
        {CHAMPION: settings},
        (mode,),
        k,
        context.config.scoring.block_mb << 20,
        singles=False,
    )
    path = spark_path(context.run_directory / "champion_lists")
    rows.write.parquet(path)
    return context.spark.read.parquet(path)


def _results(context: StageContext, lists: DataFrame, models: Sequence[str], mode: Repeats, k: int) -> Results:
    evaluation = context.config.evaluation
    everything, facts, _ = prepared(context, models)
    measuring = replace(everything, modes=(mode,), ks=(k,), logged=None)
    users = context.read_table("histories").where(F.array_contains("folds", TEST))
    try:
        with_lists = users_with_lists(users, lists, context.read_table("items"), measuring, context.config.seed)
        sums = summed(with_lists, facts, measuring, evaluation.bootstrap or REPLICATES)
    finally:
        shutil.rmtree(context.run_directory / ITEM_FACTS, ignore_errors=True)
    return Results(sums, measuring, evaluation.confidence)


def _facts(
    context: StageContext, lists: DataFrame, results: Results, models: Sequence[str], k: int
) -> dict[str, ListFacts]:
    values: dict[tuple[str, str], float] = {(row[0], row[2]): row[4] for row in results.metrics()}
    segments: dict[str, dict[str, SegmentValue]] = {model: {} for model in models}
    for row in results.segments():
        if (row[2], row[4]) == (ACTIVITY, "ndcg"):
            segments[row[0]][row[3]] = SegmentValue(row[6], row[9])
    items = int(context.facts(SPLIT)["num_items"][parameters_of("test", context.config)])
    for covered in exposure_metrics(lists, items, (k,)).collect():  # models x two metrics
        values[covered["model"], covered["metric"]] = covered["value"]
    users = context.read_table("histories").where(F.array_contains("folds", TEST)).count()
    counts = _list_counts(lists, k)
    found = {}
    for model in models:
        full, broken, listed = counts.get(model, (0, 0, 0))
        found[model] = ListFacts(
            ndcg=values.get((model, "ndcg"), 0.0),
            coverage=values.get((model, "coverage"), 0.0),
            users=users,
            empty_lists=users - listed,
            short_lists=users - full,
            broken_scores=broken,
            popularity=values.get((model, "popularity")),
            popularity_lift=values.get((model, "popularity_lift")),
            segments=segments[model],
        )
    return found


def _list_counts(lists: DataFrame, k: int) -> dict[str, tuple[int, int, int]]:
    """Model to its lists of k items, its scores that are no finite numbers, and its lists."""
    number = F.col("score").isNotNull() & ~F.isnan("score") & (F.abs("score") != float("inf"))
    by_user = lists.groupBy("model", "user_id").agg(
        F.count("*").alias("length"), F.sum((~number).cast("int")).alias("broken")
    )
    rows = by_user.groupBy("model").agg(
        F.sum((F.col("length") >= k).cast("int")).alias("full"),
        F.sum("broken").alias("broken"),
        F.count("*").alias("lists"),
    )
    return {row["model"]: (row["full"], row["broken"], row["lists"]) for row in rows.collect()}


def _ndcg(rows: Any) -> list[Any]:
    """The rows of comparisons on NDCG that are the challenger's."""
    return [row for row in rows if row[0] == CHALLENGER and row[3] == "ndcg"]


def _latencies(
    context: StageContext, challenger: Registered, champion: Registered | None, k: int, mode: Repeats
) -> tuple[Latency | None, Latency | None]:
    """How long each takes for single users: a bounded number of seeded histories, on this machine."""
    config = context.config
    if config.promotion.max_latency_ms is None and config.promotion.max_latency_ratio is None:
        return None, None
    models = [FusedModel.load(_directory(context, model)) for model in (challenger, champion) if model is not None]
    order = F.xxhash64(F.lit(config.seed), F.col("user_id"))
    rows: list[Mapping[str, Any]] = [
        row.asDict()
        for row in context.read_table("histories")
        .orderBy(order, "user_id")
        .limit(config.promotion.latency_users)
        .select("user_index", "items", "event_types", "weights", "times")
        .collect()
    ]
    assert context.as_of is not None, "its inputs are dated"
    now = context.as_of.replace(tzinfo=UTC).timestamp()
    taken = latencies(models, [raw_history(row, models[0].vocabulary, now) for row in rows], k, mode)
    if taken is None:
        return None, None
    return taken[0], taken[1] if len(taken) > 1 else None


def _directory(context: StageContext, model: Registered) -> Path:
    return model_directory(context.tracker, model, context.run_directory / f"registered-{model.version}")
