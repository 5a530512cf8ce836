from __future__ import annotations

from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.features.ids import assign_dense

DAY1, DAY2, DAY3 = (date(2024, 1, day) for day in (1, 2, 3))


def seen(spark: SparkSession, rows: dict[str, date], partitions: int = 2) -> DataFrame:
    frame = spark.createDataFrame(list(rows.items()), "item_id string, first_seen date")
    return frame.repartition(partitions)


def numbers(frame: DataFrame) -> dict[str, int]:
    return {row["item_id"]: row["item_index"] for row in frame.collect()}


def test_new_ids_are_numbered_from_one_by_first_day_and_then_by_name(spark: SparkSession, tmp_path: Path) -> None:
    rows = seen(spark, {"b": DAY1, "a": DAY2, "c": DAY1, "é": DAY3, "Z": DAY3})
    assert numbers(assign_dense(rows, None, "item_id", "item_index", tmp_path)) == {
        "b": 1,
        "c": 2,
        "a": 3,
        "Z": 4,
        "é": 5,
    }


def test_earlier_ids_never_change_even_when_an_older_or_missing_id_comes(spark: SparkSession, tmp_path: Path) -> None:
    previous = spark.createDataFrame([("b", 1), ("gone", 2)], "item_id string, item_index int")
    rows = seen(spark, {"b": DAY3, "a": DAY1, "c": DAY2})
    result = assign_dense(rows, previous, "item_id", "item_index", tmp_path)
    assert numbers(result) == {"b": 1, "gone": 2, "a": 3, "c": 4}
    assert {row["item_id"]: row["first_seen"] for row in result.collect()} == {
        "b": DAY3,
        "gone": None,
        "a": DAY1,
        "c": DAY2,
    }
