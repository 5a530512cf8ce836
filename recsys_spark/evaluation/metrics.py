"""Ranking metrics over published lists, full ranking, computed in Spark.

For a user with relevant items R and a list cut at K, with rel_i = 1 where the item of rank i is relevant:

- ndcg: sum of rel_i / log2(i + 1), over the same sum of a list that starts with min(K, |R|) relevant items
  (Jaervelin and Kekaelaeinen 2002)
- recall: hits / min(K, |R|); precision: hits / K; hit_rate: is there a hit
- map: sum over hits of precision at the hit's rank, over min(K, |R|); mrr: 1 / rank of the first hit
- coverage: distinct items over all lists, divided by the items that could be recommended

Means are over every user with relevant items; a user without a list counts 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

EXACT = "decimal(30, 15)"
"""Type in which metrics are summed: exact, so that the order of rows does not matter."""


def user_metrics(lists: DataFrame, relevant: DataFrame, ks: Sequence[int]) -> DataFrame:
    """Columns model, user_id and `<metric>_<k>` for every metric but coverage; only users with a hit have a row.

    `lists`: model, user_id, rank, item_id of one mode of repeats; `relevant`: user_id, item_id, distinct.
    """
    counts = relevant.groupBy("user_id").agg(F.count("*").alias("relevant"))
    hits = (
        lists.join(relevant, on=["user_id", "item_id"], how="inner")
        .groupBy("model", "user_id")
        .agg(F.sort_array(F.collect_list("rank")).alias("ranks"))
        .join(counts, on="user_id", how="inner")
    )
    columns = [column.alias(f"{name}_{k}") for k in ks for name, column in metrics_at(k).items()]
    return hits.select("model", "user_id", *columns)


def metrics_at(k: int) -> dict[str, Column]:
    """Name to the metric of one user: a row with the sorted `ranks` of the hits and the number of `relevant` items."""
    ranks = F.filter("ranks", lambda rank: rank <= k)
    hits = F.size(ranks).cast("double")
    ideal_length = F.least(F.lit(k), F.col("relevant"))
    zero = F.lit(0.0)
    gain = F.aggregate(ranks, zero, lambda total, rank: total + 1.0 / F.log2(rank + 1.0))
    ideal = F.aggregate(
        F.sequence(F.lit(1), ideal_length.cast("int")), zero, lambda total, rank: total + 1.0 / F.log2(rank + 1.0)
    )
    # The j-th hit (from 1) at rank r has j hits among the first r places.
    places = F.transform(ranks, lambda rank, place: (place + 1.0) / rank)
    precision_sum = F.aggregate(places, zero, lambda total, value: total + value)
    return {
        "ndcg": gain / ideal,
        "recall": hits / ideal_length,
        "precision": hits / F.lit(float(k)),
        "hit_rate": (hits > 0).cast("double"),
        "map": precision_sum / ideal_length,
        "mrr": F.when(hits > 0, 1.0 / F.element_at(ranks, 1)).otherwise(zero),
    }


def mean_metrics(
    lists: DataFrame, relevant: DataFrame, models: Sequence[str], num_items: int, ks: Sequence[int]
) -> DataFrame:
    """Columns model, metric, k, value, users, for each of the models; one without any list has 0 throughout."""
    users = relevant.agg(F.countDistinct("user_id").alias("users"))
    per_user = user_metrics(lists, relevant, ks)
    names = [column for column in per_user.columns if column not in ("model", "user_id")]
    covered = [
        (F.countDistinct(F.when(F.col("rank") <= k, F.col("item_id"))) / F.lit(float(num_items))).alias(f"coverage_{k}")
        for k in ks
    ]
    # Sums of doubles depend on the order of rows in their last digit; sums of decimals do not.
    sums = per_user.groupBy("model").agg(*[F.sum(F.col(name).cast(EXACT)).cast("double").alias(name) for name in names])
    named = lists.sparkSession.createDataFrame([(model,) for model in models], "model string")
    wide = (
        named.join(lists.groupBy("model").agg(*covered), on="model", how="left")
        .join(sums, on="model", how="left")
        .crossJoin(F.broadcast(users))
        .select(
            "model",
            "users",
            *[F.coalesce(F.col(name) / F.col("users"), F.lit(0.0)).alias(name) for name in names],
            *[F.coalesce(f"coverage_{k}", F.lit(0.0)).alias(f"coverage_{k}") for k in ks],
        )
    )
    values = F.explode(
        F.array(
            *[
                F.struct(
                    F.lit(name.rpartition("_")[0]).alias("metric"),
                    F.lit(int(name.rpartition("_")[2])).alias("k"),
                    F.col(name).cast("double").alias("value"),
                )
                for name in wide.columns
                if name not in ("model", "users")
            ]
        )
    ).alias("entry")
    return wide.select("model", values, "users").select(
        "model", "entry.metric", "entry.k", "entry.value", F.col("users").cast("long").alias("users")
    )
