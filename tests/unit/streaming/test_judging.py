"""Lines of a stream under the rules of clean_events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.config.streaming import Stream
from recsys_spark.events.rules.lookups import Lookups
from recsys_spark.streaming.judging import JUDGED, judged

GOOD = {"event_id": "e", "user_id": "u", "item_id": "i", "event_type": "click", "event_time": 1700000000}
MICROS = 1_700_000_000_000_000
CAME = datetime(2023, 11, 15, tzinfo=UTC)


def rows(
    spark: SparkSession, lines: list[str], stream: Stream, cleaning: Cleaning, lookups: Lookups | None = None
) -> Any:
    frame = spark.createDataFrame(
        [(line, "f", CAME) for line in lines], "value string, _source_file string, arrived timestamp"
    )
    found = judged(frame.coalesce(1), stream, cleaning, lookups or Lookups())
    assert tuple(found.columns) == JUDGED
    return found.toArrow().to_pylist()


def said(**changes: Any) -> str:
    return json.dumps({name: value for name, value in {**GOOD, **changes}.items() if value is not None})


def test_rows_have_the_reasons_of_clean_events_and_blank_lines_are_none(spark: SparkSession) -> None:
    lines = {
        said(): None,
        said(user_id=None): "missing_user_id",
        said(event_time="yesterday"): "bad_event_time",
        said(quantity="x", price=11): "bad_quantity|absurd_price",
        said(quantity=-2): "non_positive_quantity|return",
        said(item_id="bad"): "blocked_item",
        said(user_id="qa-7"): "test_account",
        said(event_type="wish"): "unknown_event_type",
        said(order_id="C12"): "cancelled",
        "  ": "",
        '{"event_id": "half", ': "malformed_row|missing_user_id|missing_item_id|bad_event_time|unknown_event_type",
    }  # fmt: skip
    cleaning = Cleaning(
        max_price=10, non_positive_quantity="reject", returns="net", unknown_types="reject",
        test_account_patterns=("^qa-",),
    )  # fmt: skip
    columns = "item_id string, blocked_item boolean, forbidden_content boolean"
    lookups = Lookups(blocked=F.broadcast(spark.createDataFrame([("bad", True, False)], columns)))
    stream = Stream(reject={"cancelled": "order_id LIKE 'C%'"})
    found = rows(spark, [*lines, said(quantity=-2, event_type="purchase")], stream, cleaning, lookups)
    told = {row["_raw_row"]: (row["_why"] or "").replace("\x1f", "|") or None for row in found}
    returned = said(quantity=-2, event_type="purchase")
    wanted = {line: why for line, why in lines.items() if why != ""}
    wanted[said(quantity=-2)] = "non_positive_quantity"
    wanted[returned] = "non_positive_quantity|return"
    assert told == wanted
    assert {row["arrived"] for row in found} == {round(CAME.timestamp() * 1e6)}


def theirs(**changes: Any) -> str:
    """A line under keys of their own; also one that is mapped to nothing."""
    return json.dumps({"user_id": "u", "a.b": "i", "event_type": "Buy", "at": 0, "more": {"x": [1]}, **changes})


TIMES = {
    "1700000000": MICROS,
    "1700000000.25": MICROS + 250_000,
    "1.70000000025e9": MICROS + 250_000,
    "1700000000250": MICROS + 250_000,
    "1700000000250.5": MICROS + 250_500,
    '"2023-11-14T22:13:20.25Z"': MICROS + 250_000,
    '"1700000000.25"': MICROS + 250_000,
    "12.5": None,
}


def test_times_are_seconds_with_or_without_a_fraction_or_iso_and_an_event_without_a_name_is_named_by_its_line(
    spark: SparkSession,
) -> None:
    lines = [theirs().replace('"at": 0', f'"at": {time}') for time in TIMES]
    stream = Stream(columns={"event_time": "at", "item_id": "a.b"}, event_types={"buy": "purchase"}, event_id="id")
    found = rows(spark, [*lines, lines[0], theirs(id=" "), theirs(id=7)], stream, Cleaning())
    assert dict(zip(TIMES, [row["micros"] for row in found], strict=False)) == TIMES
    names = [row["event_id"] for row in found]
    assert names[0] == names[8]
    assert len({*names}) == 10
    assert names[10] == "7"
    assert {(row["item_id"], row["event_type"]) for row in found} == {("i", "purchase")}
