from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from recsys_spark.config.cleaning import Outliers
from recsys_spark.events.rules.outliers import BIN, HISTOGRAM, bounds, value_histograms

BOTH = Outliers(quantity=True, price=True, mads=3.0, min_observations=5, days=14)
MONDAY = date(2024, 3, 4)
JUDGED = "item_id string, arrival_date date, quantity double, price double, bad boolean"
DRAWN = np.exp(np.random.default_rng(3).normal(3, 0.8, 101))


def arrived(spark: SparkSession, rows: Iterable[tuple[str, int, float | None, float | None]]) -> DataFrame:
    """Good rows of (item, days from MONDAY to arrival, quantity, price)."""
    full = [(item, MONDAY + timedelta(days), quantity, price, False) for item, days, quantity, price in rows]
    return spark.createDataFrame(full, JUDGED)


def by_week(frame: DataFrame) -> dict[tuple[str, date], Row]:
    rows = frame.collect()
    found = {(row["item_id"], row["week"]): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[tuple[str, date], Row]:
    rows: list[tuple[str, int, float | None, float | None]] = []
    rows += [("drawn", -1 - place % 14, None, float(value)) for place, value in enumerate(DRAWN)]
    rows += [("drawn", place % 3, None, 1e6) for place in range(200)]  # on and after the Monday
    rows += [("drawn", -15, None, 1e6)] * 200  # before the days that count
    rows += [("constant", -1, 1.0, 20.0)] * 9
    rows += [("rare", -1, 1.0, 20.0)] * 4
    rows += [("half", -1, 1.0, price) for price in (None, 20.0, 20.0, 0.0, -1.0)]
    rows += [("even", -1, quantity, None) for quantity in (1.0, 1.0, 1.0, 100.0, 100.0, 100.0)]
    judged = arrived(spark, rows)
    bad = spark.createDataFrame([("rare", MONDAY - timedelta(1), 1.0, 20.0, True)] * 9, JUDGED)
    # As days come in one at a time: histograms of parts are added up.
    histograms = value_histograms(judged.unionByName(bad), BOTH)
    return by_week(bounds(histograms.unionByName(value_histograms(arrived(spark, rows[:0]), BOTH)), BOTH))


def test_bounds_are_numpys_median_and_mad_within_a_bin(found: dict[tuple[str, date], Row]) -> None:
    logs = np.log(DRAWN)
    median = np.median(logs)
    reach = 3.0 * 1.4826 * np.median(np.abs(logs - median))
    row = found["drawn", MONDAY]
    # Medians of deviations are off by half a bin each side, times 3 x 1.4826.
    slack = BIN * (0.5 + 3.0 * 1.4826)
    assert math.log(row["low_price"]) == pytest.approx(median - reach, abs=slack)
    assert math.log(row["high_price"]) == pytest.approx(median + reach, abs=slack)
    assert (row["low_quantity"], row["high_quantity"]) == (None, None)


def test_a_constant_value_may_change_by_the_floors(found: dict[tuple[str, date], Row]) -> None:
    row = found["constant", MONDAY]
    assert row["high_price"] == pytest.approx(20 * 1.25**3, rel=0.02)
    assert row["low_price"] == pytest.approx(20 / 1.25**3, rel=0.02)
    assert row["high_quantity"] == pytest.approx(2**3, rel=0.02)


def test_an_even_number_of_values_has_the_mean_of_the_two_middle_ones(found: dict[tuple[str, date], Row]) -> None:
    row = found["even", MONDAY]  # the median of the logarithms is log(10), and each is log(10) away
    assert math.log(row["high_quantity"]) == pytest.approx(math.log(10) * (1 + 3 * 1.4826), abs=5 * BIN)


def test_items_with_few_good_values_are_not_judged(found: dict[tuple[str, date], Row]) -> None:
    assert ("rare", MONDAY) not in found
    assert found["half", MONDAY]["high_quantity"] is not None
    assert found["half", MONDAY]["high_price"] is None


def test_a_row_counts_in_the_weeks_that_begin_within_the_days_after_it(found: dict[tuple[str, date], Row]) -> None:
    week = timedelta(7)
    assert {key[1] for key in found if key[0] == "constant"} == {MONDAY, MONDAY + week}
    assert {key[1] for key in found if key[0] == "drawn"} == {MONDAY + week * place for place in (-2, -1, 0, 1, 2)}


def test_histograms_count_values_by_item_day_and_bin(spark: SparkSession) -> None:
    rows: list[tuple[str, int, float | None, float | None]] = [("i", 0, 2.0, 100.0), ("i", 0, 2.0, 101.0)]
    frame = value_histograms(arrived(spark, [*rows, ("i", 1, 1.0, None)]), BOTH)
    assert [f"{name} {type_}" for name, type_ in frame.dtypes] == HISTOGRAM.split(", ")
    counts: list[tuple[Any, ...]] = sorted(tuple(row) for row in frame.collect())
    price_bin, one_bin, two_bin = 232, 0, 35  # log 100 / log 1.02 = 232.55, log 101 / log 1.02 = 233.06
    assert counts == [
        ("i", MONDAY, "price", price_bin, 1),
        ("i", MONDAY, "price", price_bin + 1, 1),
        ("i", MONDAY, "quantity", two_bin, 2),
        ("i", MONDAY + timedelta(1), "quantity", one_bin, 1),
    ]
