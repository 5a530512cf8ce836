"""One item under several spellings of its id: letter case and blanks."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.cleaning import ItemIds

BLANKS = r"(?U)\s+"
"""Java's: with (?U), no-break and other Unicode blanks count."""
SHOWN = 10
"""Spellings of an item that are told."""


def spelled(item_id: Column, rule: ItemIds) -> Column:
    """The id in the configured spelling; null where nothing is left of it."""
    if rule.blanks == "remove":
        item_id = F.nullif(F.regexp_replace(item_id, BLANKS, ""), F.lit(""))
    if rule.case == "keep":
        return item_id
    return F.upper(item_id) if rule.case == "upper" else F.lower(item_id)


def spelling_collisions(item_ids: DataFrame) -> DataFrame:
    """The ids (`item_id` string, repeats allowed) that differ from another only by case or blanks, together.

    `spellings array<string>`: one row an item that has several, at most ten of them.
    """
    same = F.lower(F.regexp_replace("item_id", BLANKS, ""))
    distinct = item_ids.select("item_id", same.alias("same")).where(F.col("same").isNotNull()).distinct()
    together = distinct.groupBy("same").agg(F.sort_array(F.collect_list("item_id")).alias("spellings"))
    return together.where(F.size("spellings") > 1).select(F.slice("spellings", 1, SHOWN).alias("spellings"))
