"""What a day's events and those that it is compared with are like: counted in two passes over the clean events.

The first counts values of columns by day, the second what each user, item and order has by day; all further numbers are
made from these counts. Both read the days of the reference window, of the models' training window, and the day itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from recsys_spark.monitoring.context import MonitorContext, Window
from recsys_spark.monitoring.distances import Counts, histograms

NULL = "null"
"""The bin of missing values."""
NOTHING = -999
"""The bin of numbers that are not positive, which have no logarithm."""
LOWEST, HIGHEST = -80, 120
"""Bins of logarithms beyond these count as these."""
LARGEST = 1e300
"""Larger numbers, and NaN, are taken for not positive."""
PRICE_STEPS, QUANTITY_STEPS, COUNT_STEPS = 4, 2, 2
"""Bins in a doubling."""


@dataclass(frozen=True)
class Top:
    """Who has most events of a day."""

    name: str
    events: int


@dataclass
class Profile:
    """Counts by day; days without an event are not in it."""

    counts: dict[str, dict[date, dict[str, int]]] = field(default_factory=dict)
    """Column (event_type, price, quantity, hour, order_id) or entity (user, order: how many of them have so many
    events) to day, bin and count."""
    tops: dict[str, dict[date, Top]] = field(default_factory=dict)
    """Entity (user, item) to day and the one with most events, of equals the one with the last name."""

    def volumes(self) -> dict[date, int]:
        """Events by day."""
        return {day: sum(bins.values()) for day, bins in self.counts.get("event_type", {}).items()}

    def of(self, name: str, window: Window) -> dict[str, int]:
        """Counts by bin of a window's days together."""
        found: dict[str, int] = {}
        for day, bins in self.counts.get(name, {}).items():
            if window.first <= day < window.last:
                for value, count in bins.items():
                    found[value] = found.get(value, 0) + count
        return found

    def histograms(self, name: str, *windows: Window) -> list[Counts]:
        """Counts of a numeric column's bins in rising order, without missing values, over the same bins for all."""
        return histograms([{int(b): n for b, n in self.of(name, w).items() if b != NULL} for w in windows])


def column_counts(events: DataFrame) -> DataFrame:
    """(event_date, name, bin, entities): one row for each day, column and bin; at most some hundred bins a day."""
    values = {
        "event_type": F.col("event_type"),
        "price": log_bin(F.col("price"), PRICE_STEPS),
        "quantity": log_bin(F.col("quantity"), QUANTITY_STEPS),
        "hour": F.hour("event_time").cast("string"),
        "order_id": F.when(F.col("order_id").isNotNull(), "some"),
    }
    pairs = F.array(*[F.struct(F.lit(name).alias("name"), value.alias("bin")) for name, value in values.items()])
    named = events.select("event_date", F.explode(pairs).alias("pair")).select("event_date", "pair.*")
    return named.groupBy("event_date", "name", F.coalesce("bin", F.lit(NULL)).alias("bin")).agg(
        F.count("*").alias("entities")
    )


def entity_counts(events: DataFrame) -> DataFrame:
    """(event_date, entity, id, events, log_prices, priced): what each user, item and order has on each day.

    `log_prices` is the sum of natural logarithms of an item's `priced` positive prices. Orders of no id are left out.
    """
    positive = (F.col("price") > 0) & (F.col("price") < LARGEST)
    ids = {"user": F.col("user_id"), "item": F.col("item_id"), "order": F.col("order_id")}
    of_item = F.when(positive, F.log("price"))
    entities = F.array(
        *[
            F.struct(
                F.lit(name).alias("entity"),
                column.alias("id"),
                (of_item if name == "item" else F.lit(None).cast("double")).alias("log_price"),
            )
            for name, column in ids.items()
        ]
    )
    rows = events.select("event_date", F.explode(entities).alias("row")).select("event_date", "row.*")
    return (
        rows.where(F.col("id").isNotNull())
        .groupBy("event_date", "entity", "id")
        .agg(
            F.count("*").alias("events"),
            F.sum("log_price").alias("log_prices"),
            F.count("log_price").alias("priced"),
        )
    )


def activity_counts(entities: DataFrame) -> DataFrame:
    """(event_date, entity, bin, entities, top): how many of a day have so many events, and who has most."""
    bins = log_bin(F.col("events"), COUNT_STEPS).alias("bin")
    return entities.groupBy("event_date", "entity", bins).agg(
        F.count("*").alias("entities"), F.max(F.struct("events", "id")).alias("top")
    )


def log_bin(value: Column, steps: int) -> Column:
    """`steps` bins in a doubling as text, NOTHING for what is not positive, null for null."""
    positive = (value > 0) & (value < LARGEST)
    place = F.greatest(F.lit(LOWEST), F.least(F.lit(HIGHEST), F.floor(steps * F.log2(F.when(positive, value)))))
    return F.when(value.isNull(), None).when(positive, place.cast("string")).otherwise(F.lit(str(NOTHING)))


def profile_of(columns: Iterable[Row], activity: Iterable[Row]) -> Profile:
    """Rows of `column_counts` and of `activity_counts` as a profile."""
    profile = Profile()
    for row in columns:
        profile.counts.setdefault(row["name"], {}).setdefault(row["event_date"], {})[row["bin"]] = row["entities"]
    for row in activity:
        day, entity = row["event_date"], row["entity"]
        profile.counts.setdefault(entity, {}).setdefault(day, {})[row["bin"]] = row["entities"]
        top = Top(row["top"]["id"], row["top"]["events"])
        before = profile.tops.setdefault(entity, {}).get(day)
        if before is None or (top.events, top.name) > (before.events, before.name):
            profile.tops[entity][day] = top
    return profile


def entities_of(context: MonitorContext) -> DataFrame:
    """`entity_counts` of all days that are looked at, kept by Spark: the second pass."""
    return context.once("entities", lambda: context.persisted(entity_counts(context.events(*windows_of(context)))))


def measured_profile(context: MonitorContext) -> Profile:
    """The profile of all days that are looked at; the driver holds days times some hundred bins."""

    def make() -> Profile:
        columns = column_counts(context.events(*windows_of(context)))
        return profile_of(columns.collect(), activity_counts(entities_of(context)).collect())

    return context.once("profile", make)


def windows_of(context: MonitorContext) -> list[Window]:
    """The days that are counted."""
    training = [] if context.training is None else [context.training]
    return [context.today, context.reference, *training]
