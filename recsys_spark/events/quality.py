"""The quality report: what came in, what became of it, what the clean events look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from recsys_spark.events.types import EVENT_TYPES

OPTIONAL = ("quantity", "price", "order_id")


def observe_rows(frame: DataFrame, observation: Observation) -> DataFrame:
    """Count rows and quarantined rows while `frame` passes by."""
    return frame.observe(observation, F.count(F.lit(1)).alias("rows"), _count(F.col("bad")).alias("quarantined"))


def observe_reasons(frame: DataFrame, reasons: Iterable[str], observation: Observation) -> DataFrame:
    """Count the quarantined rows of each reason."""
    return frame.observe(observation, *reason_counts(reasons))


def reason_counts(reasons: Iterable[str]) -> list[Column]:
    """Aggregates `reason:<name>`: the rows whose `reasons` have it."""
    return [_count(F.array_contains("reasons", reason)).alias(f"reason:{reason}") for reason in reasons]


def observe_clean(frame: DataFrame, observation: Observation) -> DataFrame:
    """Count copies (`_is_copy`) and, of the others, users (`_first_of_user`), types, nulls and the span of time."""
    known = [name for name in EVENT_TYPES if name != "other"]
    stays = ~F.col("_is_copy")
    return frame.observe(
        observation,
        _count(stays).alias("clean"),
        _count(F.col("_is_copy")).alias("duplicates"),
        _count(F.col("_first_of_user")).alias("users"),
        F.unix_micros(F.min("event_time")).alias("first"),
        F.unix_micros(F.max("event_time")).alias("newest"),
        _count(stays & ~F.col("event_type").isin(*EVENT_TYPES)).alias("unknown_types"),
        *[_count(stays & (F.col("event_type") == name)).alias(f"type:{name}") for name in known],
        *[_count(stays & F.col(name).isNull()).alias(f"null:{name}") for name in OPTIONAL],
    )


def quality_report(
    rows_in: int, clean: Mapping[str, Any], quarantined: int, reasons: Mapping[str, Any], items: int
) -> dict[str, Any]:
    """The report as JSON: rows_in = clean + duplicates + quarantined."""
    kept = int(clean["clean"])
    types = {name.removeprefix("type:"): int(count) for name, count in clean.items() if name.startswith("type:")}
    types["other"] = kept - sum(types.values())
    return {
        "rows_in": rows_in,
        "clean": kept,
        "duplicates": int(clean["duplicates"]),
        "quarantined": quarantined,
        "rejects_by_reason": reasons_met(reasons),
        "users": int(clean["users"]),
        "items": items,
        "first_event": iso_time(clean["first"]),
        "newest_event": iso_time(clean["newest"]),
        "event_types": {name: count for name, count in types.items() if count},
        "null_shares": {name: round(int(clean[f"null:{name}"]) / kept, 6) for name in OPTIONAL},
    }


def reasons_met(rows: Mapping[str, Any]) -> dict[str, int]:
    """Rows of each reason that occurred (a row may have several)."""
    counts = {name.removeprefix("reason:"): int(n) for name, n in rows.items() if name.startswith("reason:")}
    return {name: count for name, count in counts.items() if count}


def iso_time(micros: int) -> str:
    """Microseconds since 1970 as ISO 8601, UTC, without a zone."""
    return (datetime(1970, 1, 1) + timedelta(microseconds=micros)).isoformat()


def _count(condition: Column) -> Column:
    return F.count(F.when(condition, F.lit(1)))
