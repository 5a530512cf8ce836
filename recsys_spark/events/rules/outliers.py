"""Robust outliers: values far from the median of their item, in units of the median absolute deviation.

Values are judged by their logarithms, since a price is wrong by factors. Of every item, day of arrival and kind of
value the counts of logarithms in bins 2 % wide are kept: they add up over days, and median and MAD over the bins are
those of the values themselves but for a bin's width. An event of the week that starts on Monday m is judged by what
arrived in [m - days, m), so its verdict never changes with what arrives later.

The scaled MAD is 1.4826 times the median absolute deviation, the standard deviation where values are normal
(Rousseeuw and Croux, Alternatives to the Median Absolute Deviation, 1993).
"""

from __future__ import annotations

import math

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.config.cleaning import Outliers

BIN = math.log(1.02)
"""A bin's width: bin b holds the values v with b <= log(v) / BIN < b + 1."""
MAD_TO_DEVIATION = 1.4826
HISTOGRAM = "item_id string, arrival_date date, kind string, bin int, count bigint"
WEEK = "week"
"""date: the Monday of an event's week."""
BOUNDS = ("low_quantity", "high_quantity", "low_price", "high_price")
"""Columns of the bounds, double, null where the item is not judged."""


def week_of(day: Column) -> Column:
    """The Monday of a date's week."""
    return F.date_sub(F.next_day(day, "Mon"), 7)


def value_histograms(judged: DataFrame, settings: Outliers) -> DataFrame:
    """Counts of what arrived: `item_id, arrival_date, kind, bin, count`; rows of several calls are added up by sum.

    `judged(item_id, arrival_date, quantity, price, bad)` must have been judged without bounds, or statistics would
    hang on earlier statistics. Rows that are bad and values of zero or less do not count.
    """
    values = [F.struct(F.lit(kind).alias("kind"), _bin(F.col(kind)).alias("bin")) for kind in settings.kinds]
    each = judged.where(~F.col("bad")).select("item_id", "arrival_date", F.inline(F.array(*values)))
    counted = each.where(F.col("bin").isNotNull()).groupBy("item_id", "arrival_date", "kind", "bin")
    return counted.agg(F.count(F.lit(1)).alias("count"))


def bounds(histograms: DataFrame, settings: Outliers) -> DataFrame:
    """What is usual of an item in a week: `item_id, week` (date) and BOUNDS, one row an item and week.

    Each row of `histograms` counts in at most days / 7 + 1 weeks. Everything is partitioned by item: one shuffle.
    """
    week, count = F.col(WEEK), F.col("count")
    group = Window.partitionBy("item_id", WEEK, "kind")
    first, last = F.next_day("arrival_date", "Mon"), F.date_add("arrival_date", settings.days)
    weeks = F.sequence(first, last, F.expr("interval 7 days"))
    counted = (
        histograms.where(F.col("kind").isin(*settings.kinds))
        .repartition("item_id")
        .select("item_id", "kind", "bin", "count", F.explode(weeks).alias(WEEK))
        .groupBy("item_id", week, "kind", "bin")
        .agg(F.sum("count").alias("count"))
        .withColumn("observations", F.sum(count).over(group))
        .where(F.col("observations") >= settings.min_observations)
    )
    with_median = _with_weighted_median(counted, "bin", "median")
    deviations = with_median.withColumn("deviation", F.abs(F.col("bin") - F.col("median")))
    usual = _with_weighted_median(deviations, "deviation", "mad").select(
        "item_id",
        WEEK,
        "kind",
        # A bin stands for the middle of its logarithms.
        ((F.col("median") + 0.5) * BIN).alias("middle"),
        (F.greatest(F.col("mad") * (MAD_TO_DEVIATION * BIN), _floor(settings)) * settings.mads).alias("reach"),
    )
    edges = {"low": F.exp(F.col("middle") - F.col("reach")), "high": F.exp(F.col("middle") + F.col("reach"))}
    columns = []
    for name in BOUNDS:
        edge, kind = name.split("_")
        columns.append(F.max(F.when(F.col("kind") == kind, edges[edge])).alias(name))
    return usual.groupBy("item_id", WEEK).agg(*columns)


def outlier(kind: str) -> Column:
    """Whether a row's quantity or price, whatever its sign, lies outside of its item's bounds, where it has any."""
    size = F.abs(F.col(kind))
    outside = (size < F.col(f"low_{kind}")) | (size > F.col(f"high_{kind}"))
    return F.coalesce((size > 0) & outside, F.lit(False))


def _bin(value: Column) -> Column:
    return F.when(value > 0, F.floor(F.log(value) / BIN).cast("int"))


def _floor(settings: Outliers) -> Column:
    quantity, price = math.log1p(settings.quantity_floor), math.log1p(settings.price_floor)
    return F.when(F.col("kind") == "quantity", quantity).otherwise(price)


def _with_weighted_median(counted: DataFrame, value: str, name: str) -> DataFrame:
    """Add the median of `value` in each group, each counted `count` times: the mean of the two middle ones."""
    group = Window.partitionBy("item_id", WEEK, "kind")
    upto = F.sum("count").over(group.orderBy(value).rowsBetween(Window.unboundedPreceding, Window.currentRow))
    ranked = counted.withColumn("upto", upto)
    total = F.col("observations")
    lower, upper = F.floor((total - 1) / 2), F.floor(total / 2)
    middles = [F.min(F.when(F.col("upto") > rank, F.col(value))).over(group) for rank in (lower, upper)]
    return ranked.withColumn(name, (middles[0] + middles[1]) / 2.0).drop("upto")
