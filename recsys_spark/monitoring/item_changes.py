"""What became of items, their categories, brands and prices between the windows, in one aggregation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as Partition
from pyspark.sql import functions as F

from recsys_spark.monitoring.context import MonitorContext, Window
from recsys_spark.monitoring.profile import entities_of

WHOLE, OTHER, UNKNOWN = "", "(others)", "(unknown)"
"""All items; values beyond the most frequent; items without a value."""
JUMP = math.log(5)
"""A price that moved by a larger factor jumped."""
DESCRIBED = ("category", "brand")


@dataclass(frozen=True)
class Events:
    """Events of the items of one value, by window."""

    day: int
    reference: int
    training: int


@dataclass(frozen=True)
class Prices:
    """Prices of items on the day against the mean (of logarithms) of the reference window."""

    items: int
    """Items that have positive prices in both."""
    ratio: float | None
    """Median over items of price / price in the reference window."""
    jumped: float | None
    """Share of items whose price moved more than fivefold, up or down."""


@dataclass
class ItemChanges:
    """What the items' events and prices say."""

    whole: Events
    new: int
    """Events of the day with items that have none in the training window."""
    prices: Prices
    values: dict[str, dict[str, Events]] = field(default_factory=dict)
    """`category` or `brand` to value and its events: the most frequent values, OTHER, and UNKNOWN."""


def item_changes(context: MonitorContext) -> ItemChanges:
    """The changes of the monitored day. Values are bounded by `monitoring.top_values`, whatever the catalogue has."""
    return context.once("item changes", lambda: _measured(context))


def _measured(context: MonitorContext) -> ItemChanges:
    windows = {"day": context.today, "reference": context.reference, "training": context.training}
    items = per_item(entities_of(context), windows)
    features = context.workspace.latest("build_features")  # it is only ever added to
    if features is not None:
        described = context.read("items", features).select(F.col("item_id").alias("id"), *DESCRIBED)
        items = items.join(described, on="id", how="left")
    return changes_of(items, DESCRIBED if features is not None else (), context.config.monitoring.top_values)


def per_item(entities: DataFrame, windows: dict[str, Window | None]) -> DataFrame:
    """(id, day, reference, training, price_change): an item's events by window, and the change of its log price."""
    inside = {name: _inside(window) for name, window in windows.items()}

    def summed(column: str, window: str) -> Column:
        return F.sum(F.when(inside[window], F.col(column)))

    mean_day = summed("log_prices", "day") / F.nullif(summed("priced", "day"), F.lit(0))
    mean_before = summed("log_prices", "reference") / F.nullif(summed("priced", "reference"), F.lit(0))
    return (
        entities.where(F.col("entity") == "item")
        .groupBy("id")
        .agg(
            *[F.coalesce(summed("events", name), F.lit(0)).alias(name) for name in windows],
            (mean_day - mean_before).alias("price_change"),
        )
    )


def changes_of(items: DataFrame, described: tuple[str, ...], top_values: int) -> ItemChanges:
    """The changes from rows of `per_item` with the columns `described`."""
    pairs = [F.struct(F.lit(WHOLE).alias("name"), F.lit(WHOLE).alias("value"))]
    pairs += [
        F.struct(F.lit(name).alias("name"), F.coalesce(F.nullif(name, F.lit("")), F.lit(UNKNOWN)).alias("value"))
        for name in described
    ]
    measured = items.select("day", "reference", "training", "price_change", F.explode(F.array(*pairs)).alias("of"))
    new = F.sum(F.when(F.col("training") == 0, F.col("day")))
    of_whole = F.when(F.col("of.name") == WHOLE, F.col("price_change"))
    values = measured.groupBy("of.name", "of.value").agg(
        *[F.sum(name).alias(name) for name in ("day", "reference", "training")],
        F.coalesce(new, F.lit(0)).alias("new"),
        F.count(of_whole).alias("priced"),
        F.percentile_approx(of_whole, 0.5, 10_000).alias("median"),
        F.sum((F.abs(of_whole) > JUMP).cast("bigint")).alias("jumped"),
    )
    total = F.col("day") + F.col("reference") + F.col("training")
    place = F.row_number().over(Partition.partitionBy("name").orderBy(total.desc(), "value"))
    kept = F.when((place <= top_values) | (F.col("value") == UNKNOWN), F.col("value")).otherwise(OTHER)
    rows = (
        values.withColumn("kept", kept)
        .groupBy("name", "kept")
        .agg(
            *[F.sum(name).alias(name) for name in ("day", "reference", "training", "new", "priced", "jumped")],
            F.first("median", ignorenulls=True).alias("median"),
        )
        .collect()  # top_values of each described column
    )
    changes = ItemChanges(Events(0, 0, 0), 0, Prices(0, None, None))
    for row in rows:
        events = Events(row["day"], row["reference"], row["training"])
        if row["name"] != WHOLE:
            changes.values.setdefault(row["name"], {})[row["kept"]] = events
            continue
        priced, median = row["priced"], row["median"]
        ratio = None if median is None else math.exp(min(median, 700.0))
        changes.whole, changes.new = events, row["new"]
        changes.prices = Prices(priced, ratio, row["jumped"] / priced if priced else None)
    return changes


def _inside(window: Window | None) -> Column:
    if window is None:
        return F.lit(False)
    return (F.col("event_date") >= F.lit(window.first)) & (F.col("event_date") < F.lit(window.last))
