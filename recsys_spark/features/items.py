"""The items, with what the catalogue says of them."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def describe(items: DataFrame, catalogue: DataFrame) -> DataFrame:
    """The items table: items with events or in the catalogue; the title is the item_id where there is none.

    `items(item_id, item_index, first_seen)`: an id that neither the logs nor the catalogue name any more is left out.
    """
    return (
        items.join(catalogue.withColumn("_catalogued", F.lit(True)), on="item_id", how="left")
        .where(F.col("first_seen").isNotNull() | F.col("_catalogued"))
        .select(
            "item_index",
            "item_id",
            F.coalesce("title", "item_id").alias("title"),
            "description",
            "category",
            "brand",
            "price",
            "first_seen",
        )
    )
