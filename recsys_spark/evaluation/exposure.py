"""How lists spread over the catalogue: coverage and the Gini coefficient of exposure.

With x_1 <= ... <= x_I how often each of the I items that could be recommended is listed among the first K, over all
lists of a model: coverage is the share of items with x > 0, Gini the sum of (2 j - I - 1) x_j over (I - 1) times the
sum of x_j: 0 where all items are listed equally often, 1 where one has it all (Shani and Gunawardana 2011).
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def exposure_metrics(lists: DataFrame, num_items: int, ks: Sequence[int]) -> DataFrame:
    """Columns model, repeats, metric (`coverage`, `gini`), k, value; models without any list have no row.

    Items are counted, and then how many items were counted how often: windows run over these counts alone.
    """
    counts = {k: F.count(F.when(F.col("rank") <= k, 1)) for k in ks}
    entries = [F.struct(F.lit(k).alias("k"), count.alias("count")) for k, count in counts.items()]
    of_items = (
        lists.groupBy("model", "repeats", "item_id")
        .agg(F.array(*entries).alias("entries"))
        .select("model", "repeats", F.inline("entries"))
        .where(F.col("count") > 0)
    )
    group = ("model", "repeats", "k")
    alike = of_items.groupBy(*group, "count").agg(F.count(F.lit(1)).alias("items"))
    exposed = Window.partitionBy(*group)
    so_far = exposed.orderBy("count").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    # The items of one count stand at places a + 1 to a + m, over which 2 j - I - 1 adds up to m (2 a + m - I).
    before = F.lit(num_items) - F.sum("items").over(exposed) + F.sum("items").over(so_far) - F.col("items")
    weighted = F.col("count") * F.col("items") * (2 * before + F.col("items") - num_items)
    sums = (
        alike.withColumn("weighted", weighted.cast("decimal(38,0)"))
        .groupBy(*group)
        .agg(
            F.sum("items").alias("items"),
            F.sum("weighted").alias("weighted"),
            F.sum(F.col("count") * F.col("items")).alias("total"),
        )
    )
    gini = F.col("weighted").cast("double") / (F.lit(float(max(1, num_items - 1))) * F.col("total"))
    return sums.select(
        *group,
        F.explode(F.create_map(F.lit("coverage"), F.col("items") / F.lit(float(num_items)), F.lit("gini"), gini)).alias(
            "metric", "value"
        ),
    ).select("model", "repeats", "metric", "k", "value")
