from __future__ import annotations

from datetime import date, datetime, timedelta
from statistics import median

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.features.item_features import Codes, described_items, event_prices, item_counts, price_bands
from recsys_spark.tables.schemas import TABLES

FOLDS = {"select": (0,), "test": (0, 1), "publish": (0, 1, 2)}


def test_codes_follow_the_order_and_an_unknown_value_is_0() -> None:
    codes = Codes(("tea", "kaffee"))
    assert codes.of(["Tea", " TEA ", "Kaﬀee", "bread", None, ""]).tolist() == [1, 1, 2, 0, 0, 0]


def test_a_price_band_begins_at_its_edge() -> None:
    edges = np.array([2.0, 5.0])
    assert price_bands(np.array([0.5, 2.0, 4.99, 5.0, 1e9, 0.0, -1.0, np.nan]), edges).tolist() == [
        1,
        2,
        2,
        3,
        3,
        0,
        0,
        0,
    ]
    assert price_bands(np.array([3.0]), np.zeros(0)).tolist() == [1]


def test_items_are_counted_in_the_folds_of_each_fit(spark: SparkSession) -> None:
    rows = [
        (1, "u", [7, 7, 9, 7], [4] * 4, [1.0] * 4, [10, 20, 30, 40], [0, 0, 1, 2]),
        (2, "v", [9, 7], [4] * 2, [1.0] * 2, [5, 25], [0, 1]),
        (3, "w", [], [], [], [], []),
    ]
    found = item_counts(spark.createDataFrame(rows, TABLES["histories"].schema).coalesce(1), FOLDS).collect()
    counts = {
        (row["item_index"], fit): tuple(row[f"{name}_{fit}"] for name in ("events", "users", "first"))
        for row in found
        for fit in FOLDS
    }
    assert counts == {
        (7, "select"): (2, 1, 10),
        (7, "test"): (3, 2, 10),
        (7, "publish"): (4, 2, 10),
        (9, "select"): (1, 1, 5),
        (9, "test"): (2, 2, 5),
        (9, "publish"): (2, 2, 5),
    }


DAY = timedelta(days=1)
START = datetime(2024, 1, 1)
# user, item, day, price
SOLD = [
    ("u", "x", 0, 1.0),
    ("u", "x", 1, 3.0),
    ("u", "x", 2, 10.0),
    ("u", "y", 3, -1.0),
    ("v", "x", 0, 2.0),
    ("v", "y", 4, 7.0),
    ("v", "x", 5, 99.0),
]


@pytest.mark.parametrize("temporal", [True, False])
def test_the_price_of_an_item_is_the_median_of_the_fits_events(spark: SparkSession, temporal: bool) -> None:
    rows = [
        (user, item, "purchase", START + day * DAY, None, price, None, "f", (START + day * DAY).date(), place, None)
        for place, (user, item, day, price) in enumerate(SOLD)
    ]
    events = spark.createDataFrame(rows, TABLES["clean_events"].schema)
    starts = ("2024-01-02T00:00:00", "2024-01-04T00:00:00") if temporal else None
    found = {row["item_id"]: row for row in event_prices(events, START + 5 * DAY, starts, FOLDS).collect()}
    if temporal:  # train: day 0; valid: days 1 and 2
        train, valid = [1.0, 2.0], [1.0, 2.0, 3.0, 10.0]
    else:  # a user's last event before day 5 is test, the one before it valid
        train, valid = [1.0, 3.0], [1.0, 3.0, 10.0, 2.0]
    assert found["x"]["event_price_select"] == median(train)
    assert found["x"]["event_price_test"] == median(valid)
    assert found["x"]["event_price_publish"] == median([1.0, 3.0, 10.0, 2.0])
    assert (found["y"]["event_price_select"], found["y"]["event_price_publish"]) == (None, 7.0)


def test_the_catalogues_price_goes_before_that_of_the_events(spark: SparkSession) -> None:
    items = spark.createDataFrame(
        [
            (1, "a", "A", None, None, None, 5.0, date(2024, 1, 1)),
            (2, "b", "B", None, None, None, -5.0, None),
            (3, "c", "C", None, None, None, None, None),
        ],
        TABLES["items"].schema,
    )
    counts = spark.createDataFrame([(1, 2, 1, 10)], "item_index int, events_p bigint, users_p bigint, first_p bigint")
    prices = spark.createDataFrame([("a", 9.0), ("b", 8.0)], "item_id string, event_price_p double")
    found = {row["item_id"]: row for row in described_items(items, counts, prices, ["p"]).collect()}
    assert [found[item]["price_p"] for item in "abc"] == [5.0, 8.0, None]
    assert [found[item]["events_p"] for item in "abc"] == [2, 0, 0]
    assert [found[item]["first_p"] for item in "abc"] == [10, None, None]
    assert [row["price_p"] for row in described_items(items, counts, None, ["p"]).orderBy("item_id").collect()] == [
        5.0,
        None,
        None,
    ]
