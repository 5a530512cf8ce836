"""Items that nothing is to be learned from: listed by id, or found by what the catalogue says of them."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.errors import UserError
from recsys_spark.events.rules.patterns import check_java_patterns, matches_any
from recsys_spark.events.rules.small import broadcast_when_small
from recsys_spark.events.rules.spelling import spelled
from recsys_spark.tables.location import spark_path

CONTENT_REASONS = ("blocked_item", "forbidden_content")
"""The columns of the lookup, and the reasons that they give."""
TEXTS = ("title", "description", "category", "brand")


def blocked_items(spark: SparkSession, cleaning: Cleaning, catalogue: DataFrame | None) -> DataFrame | None:
    """One row an item that is blocked: item_id string, blocked_item boolean, forbidden_content boolean.

    `catalogue(item_id, title, description, category, brand)`, every row of it: one bad row of several forbids an item.
    None where no rule is on. Runs one small job, to know whether the rows are few. Raises UserError for a blocklist
    that cannot be read and a pattern that Java cannot use.
    """
    parts = []
    if cleaning.blocked_items:
        parts.append(spark.createDataFrame([(item,) for item in cleaning.blocked_items], "item_id string"))
    if cleaning.blocked_items_file is not None:
        parts.append(_listed(spark, cleaning.blocked_items_file))
    plain = [
        part.select(spelled(F.trim("item_id"), cleaning.item_ids).alias("item_id"), _flags("blocked_item"))
        for part in parts
    ]
    if cleaning.forbidden_text and catalogue is not None:
        check_java_patterns(spark, cleaning.forbidden_text, "cleaning.forbidden_text")
        forbidden = catalogue.where(forbidden_content(cleaning))
        plain.append(forbidden.select("item_id", _flags("forbidden_content")))
    if not plain:
        return None
    rows = plain[0]
    for other in plain[1:]:
        rows = rows.unionByName(other)
    named = rows.where(F.col("item_id").isNotNull() & (F.col("item_id") != ""))
    flags = [F.bool_or(f"flags.{reason}").alias(reason) for reason in CONTENT_REASONS]
    return broadcast_when_small(named.groupBy("item_id").agg(*flags))


def forbidden_content(cleaning: Cleaning) -> Column:
    """Whether a row of the catalogue has a text that a forbidden pattern matches."""
    found = F.lit(False)
    for text in TEXTS:
        found = found | matches_any(F.col(text), cleaning.forbidden_text)
    return found


def without_blocked(items: DataFrame, blocked: DataFrame | None) -> DataFrame:
    """The rows of items that are not blocked."""
    return items if blocked is None else items.join(blocked.select("item_id"), on="item_id", how="left_anti")


def _flags(reason: str) -> Column:
    return F.struct(*[F.lit(name == reason).alias(name) for name in CONTENT_REASONS]).alias("flags")


def _listed(spark: SparkSession, path: str) -> DataFrame:
    if not Path(path).is_file():
        raise UserError(f"cleaning.blocked_items_file {path}: there is no such file; check the path")
    return spark.read.text(spark_path(Path(path))).withColumnRenamed("value", "item_id")
