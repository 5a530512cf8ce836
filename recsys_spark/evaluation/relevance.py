"""Who is evaluated on what: the relevant items of each user in a fold."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.sections import Repeats
from recsys_spark.events.types import EVENT_TYPES


def exploded_events(histories: DataFrame) -> DataFrame:
    """Columns user_id, item_index, event_type (code), fold: a row an event of the `histories` table."""
    event = F.explode(F.arrays_zip("items", "event_types", "folds")).alias("event")
    return histories.select("user_id", event).select(
        "user_id",
        F.col("event.items").alias("item_index"),
        F.col("event.event_types").alias("event_type"),
        F.col("event.folds").alias("fold"),
    )


def relevant_items(
    events: DataFrame, items: DataFrame, fold: int, target_events: Sequence[str], cold: str, mode: Repeats
) -> DataFrame:
    """Columns user_id, item_id: the distinct relevant items of every user in `fold`.

    Relevant are the items of the user's target events in the fold. Where `cold` is `exclude`, items that nobody had an
    event with before the fold are left out; under `drop`, those that the user had a target event with before it. Users
    without any event before the fold have no history to recommend from: they are reported apart.
    """
    codes = [code for code, name in enumerate(EVENT_TYPES) if name in target_events]
    is_target = F.col("event_type").isin(codes)
    before = events.where(F.col("fold") < fold)
    pairs = events.where((F.col("fold") == fold) & is_target).select("user_id", "item_index").distinct()
    if cold == "exclude":
        pairs = pairs.join(before.select("item_index").distinct(), on="item_index", how="left_semi")
    if mode == "drop":
        bought = before.where(is_target).select("user_id", "item_index").distinct()
        pairs = pairs.join(bought, on=["user_id", "item_index"], how="left_anti")
    with_history = pairs.join(before.select("user_id").distinct(), on="user_id", how="left_semi")
    return with_history.join(items.select("item_index", "item_id"), on="item_index", how="inner").select(
        "user_id", "item_id"
    )


def fold_users(events: DataFrame, fold: int, target_events: Sequence[str]) -> DataFrame:
    """One row: target_users (with a target event in the fold) and no_history (of these, without an event before it)."""
    codes = [code for code, name in enumerate(EVENT_TYPES) if name in target_events]
    users = events.groupBy("user_id").agg(
        F.max((F.col("fold") == fold) & F.col("event_type").isin(codes)).alias("has_target"),
        F.max(F.col("fold") < fold).alias("has_history"),
    )
    wanted = users.where("has_target")
    return wanted.agg(
        F.count("*").alias("target_users"),
        F.coalesce(F.sum((~F.col("has_history")).cast("long")), F.lit(0)).alias("no_history"),
    )
