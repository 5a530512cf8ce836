from __future__ import annotations

import json
import time
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys_spark.events.report.counts import (
    COUNTS,
    SCHEMA,
    UNKNOWN_TYPES,
    bucket_counts,
    rejects_by_reason_and_day,
    summed,
)
from recsys_spark.events.report.report import Oddities, RunFacts, build_report, report_metrics, share
from recsys_spark.tables.schemas import TABLES

FIRST, SECOND, THIRD = date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)
ROWS = [
    # user, type, time, quantity, price, order, arrival
    ("ann", "view", datetime(2024, 1, 1, 8), None, None, None, FIRST),
    ("ann", "purchase", datetime(2024, 1, 1, 8, 59), 1.0, 2.5, "o1", SECOND),
    ("ann", "view", datetime(2024, 1, 2, 23, 59, 59), None, None, None, SECOND),
    ("bob", "gift", datetime(2024, 1, 1, 0), 1.0, None, None, date(2024, 3, 1)),
    ("bob", "other", datetime(2024, 1, 1, 1), 1.0, None, None, None),
    ("cid", "view", datetime(2024, 1, 2, 8), None, None, None, FIRST),
]
COUNTED = {
    (FIRST, "clean"): 4,
    (SECOND, "clean"): 2,
    (FIRST, "type:view"): 1,
    (FIRST, "type:purchase"): 1,
    (FIRST, "type:other"): 2,
    (SECOND, "type:view"): 2,
    (FIRST, "users"): 2,
    (SECOND, "users"): 2,
    (None, "users"): 3,
    (FIRST, "null:quantity"): 1,
    (SECOND, "null:quantity"): 2,
    (FIRST, "null:price"): 3,
    (SECOND, "null:price"): 2,
    (FIRST, "null:order_id"): 3,
    (SECOND, "null:order_id"): 2,
    (FIRST, "delay:0"): 1,
    (FIRST, "delay:1"): 1,
    (FIRST, "delay:31"): 1,
    (SECOND, "delay:0"): 1,
    (SECOND, "delay:-1"): 1,
    (None, "hour:0"): 1,
    (None, "hour:1"): 1,
    (None, "hour:8"): 3,
    (None, "hour:23"): 1,
    (None, "unknown_type:gift"): 1,
    (FIRST, "exact_duplicates"): 2,
    (THIRD, "exact_duplicates"): 1,
    (SECOND, "near_duplicates"): 1,
}
REJECTS = [
    (FIRST, None, 2),
    (FIRST, "bad_price", 2),
    (FIRST, "robot", 1),
    (None, None, 1),
    (None, "bad_event_time", 1),
]


def table(rows: list[tuple[Any, ...]] = ROWS) -> pa.Table:
    names = ("user_id", "event_type", "event_time", "quantity", "price", "order_id", "arrival_date")
    types = (pa.string(), pa.string(), pa.timestamp("us", "UTC"), pa.float64(), pa.float64(), pa.string(), pa.date32())
    columns = {
        name: pa.array([row[place] for row in rows], type_)
        for place, (name, type_) in enumerate(zip(names, types, strict=True))
    }
    return pa.table({**columns, "event_date": pa.array([row[2].date() for row in rows], pa.date32())})


def counted(batch: pa.RecordBatch) -> dict[tuple[date | None, str], float]:
    rows = batch.to_pylist()
    found = {(row["day"], row["name"]): row["value"] for row in rows}
    assert len(found) == len(rows)
    return found


def counts_of(rows: list[tuple[Any, ...]] = ROWS) -> list[tuple[date | None, str, float]]:
    exact = np.array([FIRST, FIRST, THIRD], "datetime64[D]")
    near = pa.chunked_array([pa.array([SECOND])])
    return [(row["day"], row["name"], row["value"]) for row in bucket_counts(table(rows), exact, near).to_pylist()]


def facts(**changes: Any) -> RunFacts:
    return RunFacts(**{"rows_in": 13, "items": 5, "first": 1704067200_000000, "newest": 1704239999_000000, **changes})


def test_a_bucket_is_counted_by_day_and_as_a_whole() -> None:
    assert {(day, name): value for day, name, value in counts_of()} == COUNTED


@given(st.permutations(ROWS), st.integers(0, len(ROWS)))
@settings(max_examples=25, deadline=None)
def test_neither_the_order_of_rows_nor_chunks_nor_encodings_change_a_count(rows: list[Any], cut: int) -> None:
    halves = pa.concat_tables([table(rows[:cut]), table(rows[cut:])])
    encoded = halves.set_column(0, "user_id", halves["user_id"].dictionary_encode())
    encoded = encoded.set_column(1, "event_type", halves["event_type"].dictionary_encode())
    of_the_table = {key: value for key, value in COUNTED.items() if not key[1].endswith("_duplicates")}
    assert counted(bucket_counts(halves)) == counted(bucket_counts(encoded)) == of_the_table


def test_dropped_days_come_in_any_form() -> None:
    forms = (np.array([FIRST, FIRST]), np.array([19723, 19723]), np.array([FIRST, FIRST, "NaT"], "datetime64[us]"))
    for days in forms:
        assert counted(bucket_counts(table([]), near_duplicates=days)) == {(FIRST, "near_duplicates"): 2}


def test_an_empty_bucket_counts_nothing() -> None:
    batch = bucket_counts(table([]), np.array([], "datetime64[D]"), pa.array([], pa.date32()))
    assert batch.schema == SCHEMA
    assert batch.num_rows == 0


def test_a_bucket_names_a_bounded_number_of_unknown_types() -> None:
    rows = [("u", f"{kind:03}" * 100, datetime(2024, 1, 1), None, None, None, None) for kind in range(200)]
    rows.append(rows[77])
    unknown = {name: value for (_, name), value in counted(bucket_counts(table(rows))).items() if "unknown" in name}
    assert len(unknown) == UNKNOWN_TYPES
    assert max(unknown, key=lambda name: unknown[name]).startswith("unknown_type:077077")
    assert max(map(len, unknown)) < 100


def test_half_a_million_rows_are_counted_within_seconds() -> None:
    size = 500_000
    days = np.arange(size, dtype=np.int32) % 30 + 19_000
    rows = pa.table(
        {
            "user_id": pa.array([f"user {number // 30}" for number in range(size)]),
            "event_type": pa.array(["view", "purchase"] * (size // 2)),
            "event_time": pa.array(days.astype(np.int64) * 86_400_000_000, pa.timestamp("us")),
            "event_date": pa.array(days).cast(pa.date32()),
            **{name: pa.nulls(size, pa.float64()) for name in ("quantity", "price")},
            "order_id": pa.nulls(size, pa.string()),
        }
    )
    start = time.perf_counter()
    found = counted(bucket_counts(rows))
    assert time.perf_counter() - start < 3  # 0.1 s on a quiet machine
    assert found[None, "users"] == found[date(2022, 1, 8), "users"] == size // 30 + 1


def test_buckets_and_rejects_add_up_in_spark(spark: SparkSession) -> None:
    counts = [(FIRST, "clean", 2.0), (FIRST, "clean", 3.0), (None, "users", 1.0), (None, "users", 4.0)]
    total = summed(spark.createDataFrame(counts, COUNTS))
    assert {tuple(row) for row in total.collect()} == {(FIRST, "clean", 5.0), (None, "users", 5.0)}
    reasons = [(["bad_price", "robot"], FIRST), (["bad_price", "bad_price"], FIRST), (["bad_event_time"], None)]
    rows = [("file", "raw", listed, "run", day) for listed, day in reasons]
    frame = spark.createDataFrame(rows, TABLES["quarantine"].schema)
    found = rejects_by_reason_and_day(frame)
    assert found.columns == ["day", "reason", "count"]
    assert {tuple(row) for row in found.collect()} == set(REJECTS)


def test_the_report_says_what_came_and_what_became_of_it() -> None:
    report = build_report(
        counts_of(),
        REJECTS,
        facts(
            source_files=3,
            run_days=[SECOND],
            broken_files=[("a.csv.gz", "truncated")],
            schemas={"source[0]": {"user": "string"}},
            spelling_collisions=Oddities(30, [f"I{n}, i{n}" for n in range(30)]),
        ),
    )
    assert json.loads(json.dumps(report)) == report
    days = report.pop("days")
    assert len(report.pop("events_by_hour")) == 24
    assert report.pop("spelling_collisions") == {"count": 30, "examples": [f"I{n}, i{n}" for n in range(20)]}
    assert report == {
        "rows_in": 13,
        "clean": 6,
        "duplicates": 4,
        "near_duplicates": 1,
        "quarantined": 3,
        "reconciled": True,
        "rejects_by_reason": {"bad_price": 2, "robot": 1, "bad_event_time": 1},
        "users": 3,
        "items": 5,
        "first_event": "2024-01-01T00:00:00",
        "newest_event": "2024-01-02T23:59:59",
        "event_types": {"view": 3, "purchase": 1, "other": 2},
        "unknown_event_types": {"gift": 1},
        "null_shares": {"quantity": 0.5, "price": 0.833333, "order_id": 0.833333},
        "arrival_delay": {"-1": 1, "0": 2, "1": 1, "31": 1},
        "late": 2,
        "late_share": 0.4,
        "cardinalities": {"users": 3, "items": 5, "event_types": 3, "source_files": 3},
        "broken_files": {"count": 1, "files": [{"file": "a.csv.gz", "reason": "truncated"}]},
        "catalogue_conflicts": {"count": 0, "examples": []},
        "schemas": {"source[0]": {"user": "string"}},
        "run_days": ["2024-01-02"],
        "rejects_by_day": {
            "2024-01-01": {"rows": 2, "reasons": {"bad_price": 2, "robot": 1}},
            "unknown": {"rows": 1, "reasons": {"bad_event_time": 1}},
        },
    }
    assert [day["day"] for day in days] == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert days[0] == {
        "day": "2024-01-01",
        "clean": 4,
        "duplicates": 2,
        "near_duplicates": 0,
        "rejected": 2,
        "users": 2,
        "event_types": {"other": 2, "view": 1, "purchase": 1},
        "null_shares": {"quantity": 0.25, "price": 0.75, "order_id": 0.75},
        "late_share": 0.666667,
    }
    assert (days[1]["duplicates"], days[1]["near_duplicates"]) == (1, 1)
    assert (days[2]["clean"], days[2]["duplicates"], days[2]["null_shares"]["price"]) == (0, 1, 0.0)


def test_counts_of_several_buckets_that_nobody_summed_add_up() -> None:
    buckets = [
        *counts_of(ROWS[:3]),
        *((day, name, value) for day, name, value in counts_of(ROWS[3:]) if "dup" not in name),
    ]
    assert build_report(buckets, REJECTS, facts()) == build_report(counts_of(), REJECTS, facts())


@pytest.mark.parametrize("rows_in", [12, 14])
def test_a_report_whose_counts_do_not_reconcile_is_no_report(rows_in: int) -> None:
    with pytest.raises(RuntimeError, match=f"{rows_in} rows came in, but 6 clean, 4 duplicate and 3 quarantined"):
        build_report(counts_of(), REJECTS, facts(rows_in=rows_in))


def test_a_run_of_no_rows_has_a_report() -> None:
    report = build_report([], [], facts(rows_in=0, items=0, first=None, newest=None))
    assert report["first_event"] is None
    assert report["null_shares"] == {"quantity": 0.0, "price": 0.0, "order_id": 0.0}
    assert report_metrics(report)["quality.reject_share"] == 0.0


def test_metrics_are_the_reports_numbers() -> None:
    report = build_report(counts_of(), REJECTS, facts(broken_files=[("a", "b")]))
    metrics = report_metrics(report)
    assert metrics["rows_in"] == 13.0
    assert metrics["quality.reject_share"] == pytest.approx(3 / 13, abs=1e-6)
    assert metrics["quality.null_share.price"] == 0.833333
    assert metrics["quality.type_share.view"] == 0.5
    assert metrics["quality.rejects.bad_price"] == 2.0
    assert metrics["quality.broken_files"] == 1.0
    assert metrics["quality.violations"] == 0.0
    assert {"clean", "duplicates", "quarantined", "users", "items"} <= set(metrics)
    assert all(type(value) is float for value in metrics.values())


def test_a_share_is_zero_only_of_nothing() -> None:
    assert share(1, 10**9) == 1e-6
    assert share(0, 10**9) == share(0, 0) == 0.0
    assert share(1, 3) == 0.333333
