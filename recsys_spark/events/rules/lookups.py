"""What rows are looked up in while they are judged: small tables beside the stream of events."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.rules.content import CONTENT_REASONS
from recsys_spark.events.rules.outliers import BOUNDS, WEEK, week_of


@dataclass(frozen=True)
class Lookups:
    """The tables, each with at most one row a key, so that a join never multiplies events."""

    bounds: DataFrame | None = None
    """What `outliers.bounds` gives, or None: nothing is judged an outlier."""
    blocked: DataFrame | None = None
    """What `content.blocked_items` gives, or None: nothing is blocked."""


def with_lookups(events: DataFrame, lookups: Lookups) -> DataFrame:
    """Add the columns of each lookup to events(item_id, event_date, ...), null where there is nothing to find."""
    if lookups.blocked is not None:
        events = events.join(lookups.blocked.select("item_id", *CONTENT_REASONS), on="item_id", how="left")
    if lookups.bounds is not None:
        bounds = lookups.bounds.select("item_id", WEEK, *BOUNDS)
        events = events.withColumn(WEEK, week_of(F.col("event_date"))).join(bounds, on=["item_id", WEEK], how="left")
    return events


def found(name: str) -> Column:
    """A boolean lookup column, false where nothing was found."""
    return F.coalesce(F.col(name), F.lit(False))
