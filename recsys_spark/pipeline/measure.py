"""What the lists are worth: metrics of every model and mode, and what is told of them to MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.sections import Repeats
from recsys_spark.datasets.split import VALID
from recsys_spark.evaluation.metrics import mean_metrics
from recsys_spark.evaluation.relevance import exploded_events, relevant_items
from recsys_spark.pipeline.describe import recommender_card
from recsys_spark.pipeline.passes import MODES
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tracking.registry import update_card


def valid_ndcg(
    context: StageContext, lists: DataFrame, models: Sequence[str], items: int, k: int
) -> dict[Repeats, dict[str, float]]:
    """NDCG@k of each of the models on the valid window, for each mode of repeats."""
    evaluation = context.config.evaluation
    events = exploded_events(context.read_table("histories"))
    table = context.read_table("items")
    found: dict[Repeats, dict[str, float]] = {}
    for mode in MODES:
        relevant = relevant_items(events, table, VALID, evaluation.target_events, evaluation.cold, mode)
        valued = mean_metrics(lists.where(F.col("repeats") == mode), relevant, models, items, (k,))
        rows = valued.where(F.col("metric") == "ndcg").collect()  # a row a model
        found[mode] = {row["model"]: row["value"] for row in rows}
    return found


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
