"""How long it usually takes until an item is bought again."""

from __future__ import annotations

from pyspark.sql import SparkSession

from recsys_spark.scoring.intervals import item_intervals

DAY = 86400
VIEW, PURCHASE = 1, 4
SCHEMA = (
    "user_index int, user_id string, items array<int>, event_types array<int>, weights array<float>, "
    "times array<bigint>, folds array<int>"
)


def history(user: int, *events: tuple[int, float, int, int]) -> tuple[object, ...]:
    """A row of the table histories from (item, day, event type, fold)."""
    items, days, types, folds = (list(column) for column in zip(*events, strict=True))
    return (user, f"u{user}", items, types, [1.0] * len(items), [int(day * DAY) for day in days], folds)


def test_an_items_interval_is_the_median_gap_of_all_its_buyers_in_the_fits_folds(spark: SparkSession) -> None:
    """Item 7: gaps 10, 4 of one user (two purchases on a day count once) and 5 of another; item 9 has too few gaps."""
    rows = [
        history(
            1,
            (7, 1.2, PURCHASE, 0),
            (9, 2.0, PURCHASE, 0),
            (9, 4.0, PURCHASE, 0),
            (7, 11.3, PURCHASE, 0),
            (7, 11.9, PURCHASE, 0),
            (7, 13.0, VIEW, 0),
            (7, 15.1, PURCHASE, 0),
            (7, 16.0, PURCHASE, 2),  # of a fold that the fit may not see
        ),
        history(2, (7, 3.0, PURCHASE, 0), (7, 8.0, PURCHASE, 1), (9, 9.0, PURCHASE, 1), (9, 12.0, PURCHASE, 1)),
    ]
    frame = spark.createDataFrame(rows, SCHEMA).coalesce(1)
    found = item_intervals(frame, (0, 1), (PURCHASE,), min_gaps=3).collect()
    assert [(row["item_index"], row["days"], row["gaps"]) for row in found] == [(7, 5.0, 3)]
