from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys_spark.features.ids import assign_dense

names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=4)
days = st.integers(0, 3).map(lambda day: date(2024, 1, 1) + timedelta(days=day))
ids = st.dictionaries(names, days, min_size=1, max_size=30)
few = settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextmanager
def shuffle_partitions(spark: SparkSession, number: int) -> Iterator[None]:
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", str(number))
    try:
        yield
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", str(before))


def assigned(
    spark: SparkSession,
    rows: list[tuple[str, date]],
    previous: dict[str, int] | None,
    partitions: int = 1,
    ranges: int | None = None,
) -> dict[str, int]:
    frame = spark.createDataFrame(rows, "id string, arrived date").coalesce(partitions)
    before = spark.createDataFrame(list(previous.items()), "id string, number int") if previous else None
    with tempfile.TemporaryDirectory() as folder, shuffle_partitions(spark, partitions):
        result = assign_dense(frame, before, "id", "number", Path(folder), ranges)
        return {row["id"]: row["number"] for row in result.collect()}


def by_day_and_name(rows: dict[str, date]) -> dict[str, int]:
    # UTF-8 bytes, as Spark compares strings.
    order = sorted(rows, key=lambda name: (rows[name], name.encode()))
    return {name: place for place, name in enumerate(order, 1)}


@few
@given(
    first=ids,
    second=ids,
    partitions=st.integers(1, 5),
    ranges=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
def test_id_maps_are_dense_append_only_and_independent_of_partitions_and_order(
    spark: SparkSession, first: dict[str, date], second: dict[str, date], partitions: int, ranges: int, order: object
) -> None:
    def shuffled(rows: dict[str, date]) -> list[tuple[str, date]]:
        pairs = sorted(rows.items())
        order.shuffle(pairs)  # type: ignore[attr-defined]
        return pairs

    one = assigned(spark, shuffled(first), None, 1, 1)
    assert one == by_day_and_name(first)
    assert assigned(spark, shuffled(first), None, partitions, ranges) == one
    later = assigned(spark, shuffled({**second, **first}), one, partitions)
    assert later.items() >= one.items()
    assert sorted(later.values()) == list(range(1, len({*first, *second}) + 1))


@few
@given(arrived=ids, ranges=st.integers(1, 3))
def test_days_one_by_one_give_the_ids_of_one_run_over_all_of_them(
    spark: SparkSession, arrived: dict[str, date], ranges: int
) -> None:
    numbers: dict[str, int] | None = None
    for day in sorted(set(arrived.values())):
        landed = [(name, first) for name, first in arrived.items() if first <= day]
        grown = assigned(spark, landed, numbers, 2, ranges)
        assert grown.items() >= (numbers or {}).items()
        numbers = grown
    assert numbers == by_day_and_name(arrived)
