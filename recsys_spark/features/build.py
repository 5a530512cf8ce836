"""Stage build_features: id maps of users and items, and the items with what the catalogue says of them."""

from __future__ import annotations

import shutil
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import UserError
from recsys_spark.events.sources import file_errors
from recsys_spark.features.ids import assign_dense
from recsys_spark.features.items import describe, read_catalog
from recsys_spark.pipeline.stage import StageContext, StageResult


@file_errors()
def run(context: StageContext) -> StageResult:
    """Write user_ids, item_ids and items from the events before the run's date.

    Ids of this stage's newest version keep their numbers. New ids go on after the highest of that version, so two
    runs that extend the same version give one number to different ids: of their commits only the first may be
    published, and the runner refuses the other. Raises UserError where no event is before the date, or where a file of
    the catalogue turns out broken while it is read.
    """
    scratch = context.new_directory("scratch")
    try:
        events = before(context.read_table("clean_events"), context.as_of)
        catalogue = read_catalog(context.spark, context.config.catalog)
        users = assign_dense(
            first_seen(events, "user_id"), context.previous_table("user_ids"), "user_id", "user_index", scratch
        )
        catalogued = catalogue.select("item_id", F.lit(None).cast("date").alias("first_seen"))
        known = first_seen(events, "item_id").unionByName(catalogued)
        items = assign_dense(
            known.groupBy("item_id").agg(F.min("first_seen").alias("first_seen")),
            context.previous_table("item_ids"),
            "item_id",
            "item_index",
            scratch,
        )
        if events.isEmpty():
            raise UserError(f"clean_events: no event is before {context.as_of}; choose a later --date")
        user_count = context.write_table("user_ids", users)
        item_count = context.write_table("item_ids", items)
        described = context.write_table("items", describe(items, catalogue))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    context.progress(f"{user_count:,} users, {item_count:,} items ({described:,} of them in the logs or the catalogue)")
    return StageResult(metrics={"users": float(user_count), "items": float(item_count)})


def before(events: DataFrame, as_of: datetime | None) -> DataFrame:
    """The events before as_of (UTC, exclusive)."""
    if as_of is None:
        return events
    return events.where(F.col("event_time") < F.lit(as_of.isoformat(sep=" ")).cast("timestamp"))


def first_seen(events: DataFrame, id_column: str) -> DataFrame:
    """One row an id: the day of its first event."""
    return events.groupBy(id_column).agg(F.min("event_date").alias("first_seen"))
