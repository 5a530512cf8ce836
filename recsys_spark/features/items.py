"""Stage build_features: id maps of users and items, and the items with what the catalogue says of them."""

from __future__ import annotations

import shutil
from datetime import datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sections import Catalog
from recsys_spark.errors import UserError
from recsys_spark.events.columns import plain_text
from recsys_spark.events.rows import CORRUPT, FILE, ORDER, find_column, own_columns, quoted
from recsys_spark.events.sources import read_source
from recsys_spark.features.ids import assign_dense
from recsys_spark.pipeline.stage import StageContext, StageResult

DESCRIBED = ("title", "category", "brand")


def run(context: StageContext) -> StageResult:
    """Write user_ids, item_ids and items from the events before the run's date.

    Ids of this stage's newest version keep their numbers. Raises UserError where no event is before the date.
    """
    scratch = context.new_directory("scratch")
    try:
        events = before(context.read_table("clean_events"), context.as_of)
        catalogue = read_catalog(context.spark, context.config.catalog)
        users = assign_dense(
            first_seen(events, "user_id"), context.previous_table("user_ids"), "user_id", "user_index", scratch
        )
        items = assign_dense(
            first_seen(events, "item_id"), context.previous_table("item_ids"), "item_id", "item_index", scratch
        )
        user_count = context.write_table("user_ids", users)
        if not user_count:
            raise UserError(f"clean_events: no event is before {context.as_of}; choose a later --date")
        item_count = context.write_table("item_ids", items)
        described = context.write_table("items", describe(items, catalogue))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    context.progress(f"{user_count:,} users, {item_count:,} items ({described:,} with events)")
    metrics = {"users": float(user_count), "items": float(item_count), "items_with_events": float(described)}
    return StageResult(metrics=metrics, facts={"users": user_count, "items": item_count})


def before(events: DataFrame, as_of: datetime | None) -> DataFrame:
    """The events before as_of (UTC, exclusive)."""
    if as_of is None:
        return events
    return events.where(F.col("event_time") < F.lit(as_of.isoformat(sep=" ")).cast("timestamp"))


def first_seen(events: DataFrame, id_column: str) -> DataFrame:
    """One row an id: the day of its first event."""
    return events.groupBy(id_column).agg(F.min("event_date").alias("first_seen"))


def read_catalog(spark: SparkSession, catalog: Catalog | None) -> DataFrame:
    """One row an item: item_id, title, category, brand, trimmed, null where empty.

    Of several rows of an item the first by (file, order) counts; rows that do not fit the format or have no item_id are
    left out. Without a catalogue there are no rows.
    """
    if catalog is None:
        return spark.createDataFrame([], "item_id string, title string, category string, brand string")
    raw = read_source(spark, catalog, key="catalog")
    if CORRUPT in raw.columns:
        raw = raw.where(F.col(CORRUPT).isNull())
    available = own_columns(raw)

    types = {field.name: field.dataType for field in raw.schema}

    def mapped(name: str) -> Column:
        column = find_column(available, catalog.columns[name]) if name in catalog.columns else None
        return F.lit(None).cast("string") if column is None else plain_text(quoted(column), types[column])

    rows = raw.select("*", mapped("item_id").alias("_id")).where(F.col("_id").isNotNull())
    content = F.struct(*[readable(mapped(name)).alias(name) for name in DESCRIBED])
    first = F.min_by(content, F.struct(F.col(FILE), F.col(ORDER)))
    return rows.groupBy("_id").agg(first.alias("_first")).select(F.col("_id").alias("item_id"), "_first.*")


def readable(text: Column) -> Column:
    """Trimmed, with each run of blanks and line ends as one blank; null where nothing is left."""
    return F.nullif(F.trim(F.regexp_replace(text, r"\s+", " ")), F.lit(""))


def describe(items: DataFrame, catalogue: DataFrame) -> DataFrame:
    """The items table: items that have events, with title (the item_id where there is none), category and brand."""
    return (
        items.where(F.col("first_seen").isNotNull())
        .join(catalogue, on="item_id", how="left")
        .select(
            "item_index",
            "item_id",
            F.coalesce("title", "item_id").alias("title"),
            "category",
            "brand",
            "first_seen",
        )
    )
