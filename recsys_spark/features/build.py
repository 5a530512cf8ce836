"""Stage build_features: id maps of users and items, and the items with what the catalogue says of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import UserError
from recsys_spark.events.catalogue import read_catalog
from recsys_spark.events.layout import bucket_files
from recsys_spark.events.sources import file_errors
from recsys_spark.features.ids import assign_dense, ranges_for, write_first_days
from recsys_spark.features.items import describe
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.tables.location import spark_path

FIRST_DAYS = "arrived date, first_seen date"


@file_errors()
def run(context: StageContext) -> StageResult:
    """Write user_ids, item_ids and items from the events before the run's date.

    Ids of this stage's newest version keep their numbers. New ids go on after the highest of that version, so two
    runs that extend the same version give one number to different ids: of their commits only the first may be
    published, and the runner refuses the other. Raises UserError where no event is before the date, or where a file of
    the catalogue turns out broken while it is read.

    The events are read once, four columns of them, each bucket by a task that keeps no more than its own ids.
    """
    spark, scratch = context.spark, context.new_directory("scratch")
    try:
        buckets = bucket_files(context.directory("clean_events"))
        counts = write_first_days(spark, buckets, context.as_of, scratch)
        if not counts["events"]:
            raise UserError(f"clean_events: no event is before {context.as_of}; choose a later --date")
        users = spark.read.schema(f"user_id string, {FIRST_DAYS}").parquet(spark_path(scratch / "user_id"))
        user_count = context.write_table("user_ids", _numbered(context, users, "user", counts["user_id"], scratch))
        catalogue = _written(
            read_catalog(spark, context.config.catalog, context.config.cleaning), scratch / "catalogue"
        )
        items = _written(_items_seen(spark, scratch / "item_id", catalogue), scratch / "items_seen")
        numbered = _numbered(context, items, "item", _rows(scratch / "items_seen"), scratch)
        item_count = context.write_table("item_ids", numbered)
        described = context.write_table("items", describe(numbered, catalogue))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    context.progress(f"{user_count:,} users, {item_count:,} items ({described:,} of them in the logs or the catalogue)")
    return StageResult(metrics={"users": float(user_count), "items": float(item_count)})


def _items_seen(spark: SparkSession, written: Path, catalogue: DataFrame) -> DataFrame:
    """One row an item of the logs or the catalogue: `item_id, arrived, first_seen`, without days where never seen."""
    seen = spark.read.schema(f"item_id string, {FIRST_DAYS}").parquet(spark_path(written))
    never = F.lit(None).cast("date")
    catalogued = catalogue.select("item_id", never.alias("arrived"), never.alias("first_seen"))
    return (
        seen.unionByName(catalogued)
        .groupBy("item_id")
        .agg(F.min("arrived").alias("arrived"), F.min("first_seen").alias("first_seen"))
    )


def _numbered(context: StageContext, seen: DataFrame, kind: str, rows: int, scratch: Path) -> DataFrame:
    """The ids with their numbers: `<kind>_id, <kind>_index`, and for items first_seen."""
    if kind == "user":
        seen = seen.drop("first_seen")
    previous = context.previous_table(f"{kind}_ids")
    return assign_dense(seen, previous, f"{kind}_id", f"{kind}_index", scratch, ranges_for(rows))


def _written(frame: DataFrame, path: Path) -> DataFrame:
    """The rows as they were at their one computation."""
    frame.write.parquet(spark_path(path))
    return frame.sparkSession.read.schema(frame.schema).parquet(spark_path(path))


def _rows(path: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in path.glob("*.parquet"))
