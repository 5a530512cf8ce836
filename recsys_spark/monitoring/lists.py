"""Measures of the lists that stand at a day's end: whom they serve, what they hold, and how they changed.

With x_i the number of lists that hold item i, over the I items that could be recommended, coverage and Gini are those
of `evaluation.exposure`, here over whole lists. Churn is the mean over users who had a list the day before of
1 - |A and B| / max(|A|, |B|), for the items A of their list and B of the one before.

Two aggregations: one by item, then by how often; one by user, then by what stands on the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.evaluation.metrics import EXACT
from recsys_spark.fusion.model import FALLBACK
from recsys_spark.monitoring.context import MonitorContext
from recsys_spark.monitoring.finding import Group, Measure
from recsys_spark.monitoring.usual import against_usual
from recsys_spark.tables.pointer import Commit

GROUP: Group = "lists"
TABLE = "recommendations"
RATIOS = {"coverage": "coverage_ratio", "top_item_share": "top_item_ratio"}


@dataclass(frozen=True)
class Alike:
    """Items that stand on equally many lists."""

    lists: int
    items: int
    example: str
    """The first of their ids."""


@dataclass(frozen=True)
class Shapes:
    """What lists are like, over users."""

    lists: int
    fallback: int
    """Lists every row of which comes from the fallback alone."""
    different: int
    """Different lists: the same items in the same order are one."""
    most_alike: int
    """Users who have the list that most users have."""
    compared: int
    """Users who had a list before too."""
    churn: float
    """Mean over these."""


def measure_lists(context: MonitorContext) -> list[Measure]:
    """Measures of the newest lists that were made by the day's end, those before them in force on the day itself."""
    commit = context.lists
    if commit is None:
        return context.without(GROUP, "no lists were published by the day's end")
    now, before = context.read(TABLE, commit), _before(context, commit)
    shapes = list_shapes(now, context.read(TABLE, before) if before else None)
    measures = [_age(context, commit), *_of_shapes(context, commit, shapes)]
    measures += _of_items(context, commit, now, shapes.lists)
    return against_usual(context, measures, RATIOS)


def _age(context: MonitorContext, commit: Commit) -> Measure:
    assert commit.as_of is not None, "undated lists are nobody's"
    age = context.end - datetime.fromisoformat(commit.as_of)
    return context.measure(GROUP, "age_days", age / timedelta(days=1))


def _before(context: MonitorContext, commit: Commit) -> Commit | None:
    """The lists that were live on the day, where they are others than those at its end."""
    live = context.live
    return live.commit if live is not None and live.commit.version != commit.version else None


def _of_shapes(context: MonitorContext, commit: Commit, shapes: Shapes) -> list[Measure]:
    of = partial(context.measure, GROUP)
    measures = []
    users = int(commit.metrics.get("users", 0))
    if users:
        measures.append(of("empty_share", max(0, users - shapes.lists) / users, users))
    if shapes.lists:
        if set(context.config.models) != {FALLBACK}:
            measures.append(of("fallback_share", shapes.fallback / shapes.lists, shapes.lists))
        told = f"{shapes.different:,} different lists"
        measures.append(of("same_list_share", shapes.most_alike / shapes.lists, shapes.lists, detail=told))
    if shapes.compared:
        measures.append(of("churn", shapes.churn, shapes.compared))
    return measures


def _of_items(context: MonitorContext, commit: Commit, now: DataFrame, lists: int) -> list[Measure]:
    alike = items_alike(now)
    if not alike:
        return []
    top = max(alike, key=lambda each: each.lists)
    named = f"item {top.example}" + (f" and {top.items - 1} more" if top.items > 1 else "")
    of = partial(context.measure, GROUP, rows=lists)
    measures = [of("top_item_share", top.lists / lists, detail=named)]
    datasets = context.made_from(commit, "build_datasets")
    if datasets is not None:
        size = int(datasets.facts["num_items"]["publish"])
        covered = sum(each.items for each in alike)
        coverage, gini = coverage_and_gini(alike, size)
        measures += [of("coverage", coverage, detail=f"{covered:,} of {max(size, covered):,}"), of("gini", gini)]
    return measures


def items_alike(lists: DataFrame) -> list[Alike]:
    """The listed items by how many lists hold them.

    The driver holds a row for each different number of lists: at most sqrt(2 x rows) of them, since they are different
    and add up to no more than the rows.
    """
    by_item = lists.groupBy("item_id").agg(F.count(F.lit(1)).alias("lists"))
    alike = by_item.groupBy("lists").agg(F.count(F.lit(1)).alias("items"), F.min("item_id").alias("example"))
    return [Alike(row["lists"], row["items"], row["example"]) for row in alike.collect()]


def coverage_and_gini(alike: Sequence[Alike], size: int) -> tuple[float, float]:
    """Coverage and Gini of exposure over `size` items, or over all that are listed where these are more."""
    listed = sum(each.items for each in alike)
    size = max(size, listed)
    below, weighted, total = size - listed, 0, 0
    for each in sorted(alike, key=lambda each: each.lists):
        # They stand at places below + 1 to below + items, over which 2 j - I - 1 adds up to m (2 below + m - I).
        weighted += each.lists * each.items * (2 * below + each.items - size)
        total += each.lists * each.items
        below += each.items
    return listed / size, weighted / (max(1, size - 1) * total)


def list_shapes(now: DataFrame, before: DataFrame | None) -> Shapes:
    """What the lists `now` are like, also against those `before`; both as in the table recommendations."""
    alone = F.map_keys("components") == F.array(F.lit(FALLBACK))
    rows = now.select("user_id", "rank", "item_id", alone.alias("alone"), F.lit(True).alias("new"))
    if before is not None:
        old = before.select("user_id", "rank", "item_id", F.lit(True).alias("alone"), F.lit(False).alias("new"))
        rows = rows.unionAll(old)
    new = F.col("new")
    users = rows.groupBy("user_id").agg(
        F.array_sort(F.collect_list(F.when(new, F.struct("rank", "item_id")))).getField("item_id").alias("own"),
        F.collect_list(F.when(~new, F.col("item_id"))).alias("old"),
        F.min(F.when(new, F.col("alone"))).alias("alone"),
    )
    kept = F.size(F.array_intersect("own", "old")) / F.greatest(F.size("own"), F.size("old"))
    churn = F.when(F.size("old") > 0, (1 - kept).cast(EXACT))
    listed = users.where(F.size("own") > 0).select(F.xxhash64("own").alias("list"), "alone", churn.alias("churn"))
    by_list = listed.groupBy("list").agg(
        F.count(F.lit(1)).alias("users"),
        F.count(F.when(F.col("alone"), 1)).alias("fallback"),
        F.count("churn").alias("compared"),
        F.sum("churn").alias("churn"),
    )
    sums = [F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in ("users", "fallback", "compared", "churn")]
    row = by_list.agg(*sums, F.count(F.lit(1)).alias("different"), F.coalesce(F.max("users"), F.lit(0)).alias("most"))
    [total] = row.collect()
    return Shapes(
        lists=total["users"],
        fallback=total["fallback"],
        different=total["different"],
        most_alike=total["most"],
        compared=total["compared"],
        churn=float(total["churn"]) / max(1, total["compared"]),
    )
