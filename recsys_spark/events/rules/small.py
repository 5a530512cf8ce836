"""Small tables that are sent to the events, so that the events need not be shuffled to them."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

SMALL = 500_000
"""Rows of a lookup that every executor takes into its memory, some 50 MB of them."""


def broadcast_when_small(lookup: DataFrame) -> DataFrame:
    """The lookup, marked to be sent where it has at most SMALL rows; they are counted, no further than that."""
    return F.broadcast(lookup) if lookup.limit(SMALL + 1).count() <= SMALL else lookup
