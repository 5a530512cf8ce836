from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.features.ids import _bucket_first_days, assign_dense, ranges_for, write_first_days

DAY1, DAY2, DAY3 = (date(2024, 1, day) for day in (1, 2, 3))


def seen(spark: SparkSession, rows: dict[str, tuple[date | None, date | None]]) -> DataFrame:
    pairs = [(name, *days) for name, days in rows.items()]
    return spark.createDataFrame(pairs, "item_id string, arrived date, first_seen date")


def numbers(frame: DataFrame) -> dict[str, tuple[int, date | None]]:
    return {row["item_id"]: (row["item_index"], row["first_seen"]) for row in frame.collect()}


def bucket(path: Path, rows: list[tuple[str, str, datetime, date | None]]) -> str:
    """A file of clean events: (user, item, time, arrival)."""
    users, items, times, arrivals = zip(*rows, strict=True)
    days = [time.date() for time in times]
    table = {
        "user_id": users,
        "item_id": items,
        "event_time": pa.array(times, pa.timestamp("us", "UTC")),
        "event_date": pa.array(days, pa.date32()),
        "arrival_date": pa.array(arrivals, pa.date32()),
    }
    pq.write_table(pa.table({name: pa.array(column) for name, column in table.items()}), path)
    return str(path)


def test_new_ids_are_numbered_from_one_by_the_day_of_arrival_and_then_by_name(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = {"b": (DAY1, DAY1), "a": (DAY2, DAY1), "c": (DAY1, DAY1), "é": (DAY3, DAY2), "Z": (DAY3, DAY3)}
    never = {"A": (None, None)}
    assert numbers(assign_dense(seen(spark, {**never, **rows}), None, "item_id", "item_index", tmp_path)) == {
        "b": (1, DAY1),
        "c": (2, DAY1),
        "a": (3, DAY1),
        "Z": (4, DAY3),
        "é": (5, DAY2),
        "A": (6, None),
    }


def test_earlier_ids_never_change_even_when_an_older_or_missing_id_comes(spark: SparkSession, tmp_path: Path) -> None:
    previous = spark.createDataFrame([("b", 1), ("gone", 2)], "item_id string, item_index int")
    rows = seen(spark, {"b": (DAY3, DAY3), "a": (DAY1, DAY1), "c": (DAY2, DAY2)})
    assert numbers(assign_dense(rows, previous, "item_id", "item_index", tmp_path)) == {
        "b": (1, DAY3),
        "gone": (2, None),
        "a": (3, DAY1),
        "c": (4, DAY2),
    }


def test_more_ids_than_32_bits_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    previous = spark.createDataFrame([("b", 2**31 - 1)], "item_id string, item_index int")
    with pytest.raises(OverflowError, match="32 bits"):
        assign_dense(seen(spark, {"a": (DAY1, DAY1)}), previous, "item_id", "item_index", tmp_path)


def test_half_a_million_ids_are_sorted_by_one_task_and_more_by_more() -> None:
    assert [ranges_for(rows) for rows in (0, 1, 500_000, 500_001, 5_000_000)] == [1, 1, 1, 2, 10]


def test_first_days_are_those_of_arrival_and_of_the_event_over_all_files_of_a_bucket(tmp_path: Path) -> None:
    at = [datetime(2024, 1, day, 12) for day in (1, 2, 3, 4)]
    files = [
        bucket(tmp_path / "1", [("u", "x", at[1], DAY2), ("u", "y", at[1], DAY2)]),
        # Late: the event is the older one, but it arrived later.
        bucket(tmp_path / "2", [("u", "x", at[0], DAY3), ("v", "z", at[2], None), ("w", "n", at[3], date(2024, 1, 4))]),
    ]
    for name in ("user_id", "item_id"):
        (tmp_path / name).mkdir()
    assert _bucket_first_days(files, datetime(2024, 1, 4), tmp_path, "b") == {"user_id": 2, "item_id": 3, "events": 4}

    def rows(name: str) -> set[tuple[object, ...]]:
        return {tuple(row.values()) for row in pq.read_table(tmp_path / name / "b").to_pylist()}

    assert rows("user_id") == {("u", DAY2, DAY1), ("v", None, DAY3)}
    assert rows("item_id") == {("x", DAY2, DAY1), ("y", DAY2, DAY2), ("z", None, DAY3)}
    # A bound within a day looks at the times.
    assert _bucket_first_days(files, datetime(2024, 1, 3, 12), tmp_path, "b")["events"] == 3
    assert _bucket_first_days(files, datetime(2024, 1, 3, 12, 0, 1), tmp_path, "b")["events"] == 4
    assert _bucket_first_days(files, None, tmp_path, "b")["events"] == 5
    assert _bucket_first_days(files, datetime(2024, 1, 1), tmp_path, "b") == {"user_id": 0, "item_id": 0, "events": 0}


def test_every_bucket_is_read_once_and_its_counts_are_told(spark: SparkSession, tmp_path: Path) -> None:
    noon = datetime(2024, 1, 1, 12)
    files = [[bucket(tmp_path / name, [(name, "x", noon, DAY1), (name, name, noon, DAY1)])] for name in ("u", "v", "w")]
    counts = write_first_days(spark, files, None, tmp_path / "days")
    assert counts == {"user_id": 3, "item_id": 6, "events": 6}
    assert len(list((tmp_path / "days" / "user_id").glob("*.parquet"))) == 3
    assert write_first_days(spark, [], None, tmp_path / "none") == {"user_id": 0, "item_id": 0, "events": 0}
