"""What the lists are worth: metrics of every model and mode, and what is told of them to MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.sections import Repeats
from recsys_spark.datasets.split import TEST
from recsys_spark.evaluation.metrics import mean_metrics
from recsys_spark.evaluation.relevance import exploded_events, relevant_items
from recsys_spark.pipeline.describe import recommender_card
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tracking.registry import update_card


def measured(
    context: StageContext,
    lists: DataFrame,
    fold: int,
    models: Sequence[str],
    items: int,
    ks: tuple[int, ...] | None = None,
) -> DataFrame:
    """Columns of `evaluation_metrics`, for each of the models and each mode of repeats that is measured."""
    evaluation = context.config.evaluation
    events = exploded_events(context.read_table("histories"))
    modes: tuple[Repeats, ...] = evaluation.modes if fold == TEST else ("allow", "drop")
    frames = []
    for mode in modes:
        relevant = relevant_items(
            events, context.read_table("items"), fold, evaluation.target_events, evaluation.cold, mode
        )
        chosen = lists.where(F.col("repeats") == mode)
        measured = mean_metrics(chosen, relevant, models, items, ks or evaluation.k)
        frames.append(measured.withColumn("repeats", F.lit(mode)))
    union = frames[0]
    for frame in frames[1:]:
        union = union.unionByName(frame)
    return union.select("model", "repeats", "metric", "k", "value", "users")


def read_metrics(context: StageContext) -> dict[str, dict[str, float]]:
    """Model to its metrics under the names of the contract, such as `test.ndcg_at_10` or `test.ndcg_at_10.drop`."""
    table = context.written_table("evaluation_metrics")
    values: dict[str, dict[str, float]] = {}
    for row in table.orderBy("model", "repeats", "metric", "k").collect():  # models x metrics: a few hundred rows
        suffix = ".drop" if row["repeats"] == "drop" else ""
        values.setdefault(row["model"], {})[f"test.{row['metric']}_at_{row['k']}{suffix}"] = row["value"]
    return values


def log(context: StageContext, values: Mapping[str, Mapping[str, float]]) -> None:
    """Test metrics on each model's own run and in its card."""
    versions = context.facts("train_models")["models"]
    datasets = context.facts("build_datasets")
    for name in context.config.models:
        facts = context.workspace.version(f"train_models.{name}", versions[name]).facts
        measured = dict(values.get(name, {}))
        context.tracker.resume(facts["run_id"]).log_metrics(measured)
        if context.config.evaluation.only:
            continue  # nothing of it is registered
        card = recommender_card(name, context.config, datasets, context.as_of or datetime.now(UTC), measured)
        update_card(context.tracker, f"recsys-{name}", facts["registered_version"], card)
