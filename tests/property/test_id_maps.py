from __future__ import annotations

import tempfile
from datetime import date, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys_spark.features.ids import assign_dense

names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=4)
days = st.integers(0, 3).map(lambda day: date(2024, 1, 1) + timedelta(days=day))
ids = st.dictionaries(names, days, min_size=1, max_size=30)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=ids, second=ids, partitions=st.integers(1, 5), order=st.randoms(use_true_random=False))
def test_id_maps_are_dense_append_only_and_independent_of_partitions_and_order(
    spark: SparkSession, first: dict[str, date], second: dict[str, date], partitions: int, order: object
) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def assigned(rows: dict[str, date], previous: dict[str, int] | None, split: int) -> dict[str, int]:
            shuffled = sorted(rows.items())
            order.shuffle(shuffled)  # type: ignore[attr-defined]
            frame = spark.createDataFrame(shuffled, "id string, first_seen date").repartition(split)
            spark.conf.set("spark.sql.shuffle.partitions", str(split))
            before = previous and spark.createDataFrame(list(previous.items()), "id string, number int")
            result = assign_dense(frame, before or None, "id", "number", Path(folder))
            return {row["id"]: row["number"] for row in result.collect()}

        shuffle_partitions = spark.conf.get("spark.sql.shuffle.partitions")
        try:
            one = assigned(first, None, 1)
            many = assigned(first, None, partitions)
            later = assigned({**second, **first}, one, partitions)
        finally:
            spark.conf.set("spark.sql.shuffle.partitions", str(shuffle_partitions))
    # UTF-8 bytes, as Spark compares strings.
    expected = sorted(first, key=lambda name: (first[name], name.encode()))
    assert one == many == {name: place for place, name in enumerate(expected, 1)}
    assert later.items() >= one.items()
    assert sorted(later.values()) == list(range(1, len({*first, *second}) + 1))
