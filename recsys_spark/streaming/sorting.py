"""What becomes of each row of a micro-batch: accepted, a duplicate, or quarantined with its reasons. Needs no Spark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.events.rows import BETWEEN, FILE, RAW, WHY
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.online.events import BATCH_PREFIX, LiveEvent
from recsys_spark.streaming.judging import ARRIVED, EVENT_ID, MICROS
from recsys_spark.tables.schemas import TABLES

LATE, AHEAD, BAD_NAME = "too_late", "future_time", "bad_event_id"
"""The reasons that are given here."""
LONGEST_NAME = 200
"""Characters of an event's name."""
EVENTS, QUARANTINE = "live_events", "live_quarantine"


@dataclass(frozen=True)
class Moment:
    """When a micro-batch is taken in."""

    taken_at: float
    """Epoch seconds by the clock."""
    newest: float | None
    """Epoch seconds of the newest event that an earlier batch accepted, None before the first."""
    lateness: float
    """Seconds that an event may be older than that."""
    ahead: float
    """Seconds that an event may be newer than the clock."""

    def against(self, time: float) -> str | None:
        """The reason against an event of this time, None where there is none."""
        if time > self.taken_at + self.ahead:
            return AHEAD
        return LATE if self.newest is not None and time < self.newest - self.lateness else None


@dataclass(frozen=True)
class Sorted:
    """The rows of a micro-batch."""

    events: pa.Table
    """Table `live_events`: what is accepted."""
    quarantine: pa.Table
    """Table `live_quarantine`."""
    facts: Mapping[str, Any]
    """How many rows became what, and what the next batch must know."""


def sort_rows(rows: pa.Table, number: int, moment: Moment, known: Iterable[str]) -> Sorted:
    """Sort the judged rows (`judging.JUDGED`) of batch `number`; `known` are the event ids that were taken in before.

    Of several rows under one id that could be accepted the first by file and line's text counts, so the order in which
    Spark reads files says nothing. Rows in = accepted + duplicates + quarantined, else RuntimeError.
    """
    seen = set(known)
    accepted: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    refused: list[str] = []
    reasons: Counter[str] = Counter()
    duplicates = late = 0
    newest = moment.newest
    for row in sorted(rows.to_pylist(), key=lambda row: (row[FILE], row[RAW])):
        why = _reasons(row, moment)
        if why:
            reasons.update(why)
            late += LATE in why
            refused.append(row[EVENT_ID])
            rejected.append({"source_file": row[FILE], "raw": row[RAW], "reasons": why})
        elif row[EVENT_ID] in seen:
            duplicates += 1
        else:
            seen.add(row[EVENT_ID])
            accepted.append(row)
            newest = row[MICROS] / 1e6 if newest is None else max(newest, row[MICROS] / 1e6)
    counts = {"rows": rows.num_rows, "accepted": len(accepted), "duplicates": duplicates, "quarantined": len(rejected)}
    if counts["rows"] != len(accepted) + duplicates + len(rejected):
        raise RuntimeError(f"batch {number}: {counts} do not add up")
    came = pc.min(rows[ARRIVED]).as_py()
    told = {"newest": newest, "taken_at": moment.taken_at, "late": late, "reasons": dict(sorted(reasons.items()))}
    told["arrived"] = None if came is None else came / 1e6
    return Sorted(
        _events(accepted, number),
        _quarantine(rejected, number, moment.taken_at),
        {**counts, **told, "refused": sorted(set(refused) - seen)},
    )


def live_events(table: pa.Table) -> list[LiveEvent]:
    """The events of a batch's table `live_events`, in the order of histories; types that are not known are `other`."""
    events = [
        LiveEvent(
            event_id=row["event_id"],
            user_id=row["user_id"],
            item_id=row["item_id"],
            event_type=row["event_type"] if row["event_type"] in EVENT_TYPES else EVENT_TYPES[0],
            event_time=micros / 1e6,
            quantity=row["quantity"],
            price=row["price"],
            order_id=row["order_id"],
        )
        for row, micros in zip(
            table.drop_columns(["event_time"]).to_pylist(),
            table["event_time"].cast(pa.int64()).to_pylist(),
            strict=True,
        )
    ]
    return sorted(events, key=lambda event: (event.event_time, event.event_id))


def _reasons(row: Mapping[str, Any], moment: Moment) -> list[str]:
    reasons = row[WHY].split(BETWEEN) if row[WHY] else []
    if row[MICROS] is not None and (timely := moment.against(row[MICROS] / 1e6)) is not None:
        reasons.append(timely)
    name = row[EVENT_ID]
    if name.startswith(BATCH_PREFIX) or len(name) > LONGEST_NAME:
        reasons.append(BAD_NAME)
    return reasons


def _events(rows: list[dict[str, Any]], number: int) -> pa.Table:
    schema = TABLES[EVENTS].arrow_schema
    plain = ("event_id", "user_id", "item_id", "event_type", "price", "order_id")
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in plain}
    columns["event_time"] = pa.array([row[MICROS] for row in rows], pa.int64()).cast(schema.field("event_time").type)
    columns["quantity"] = [1.0 if row["quantity"] is None else row["quantity"] for row in rows]
    columns["source_file"] = [row[FILE] for row in rows]
    columns["batch"] = [number] * len(rows)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _quarantine(rows: list[dict[str, Any]], number: int, taken_at: float) -> pa.Table:
    stamp = datetime.fromtimestamp(taken_at, UTC)
    return pa.Table.from_pylist(
        [{**row, "batch": number, "taken_at": stamp} for row in rows], schema=TABLES[QUARANTINE].arrow_schema
    )
