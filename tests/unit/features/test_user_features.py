from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.sources import Demographics
from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.features.user_features import ItemCodes, read_demographics, user_rows, with_attributes

DAY = 86_400
VIEW, PURCHASE = 1, 4


def flat(*users: list[tuple[int, int, float, int]]) -> FlatHistories:
    """Users as lists of (item, type, weight, time)."""
    events = [event for user in users for event in user]
    items, types, weights, times = (np.array([event[place] for event in events]) for place in range(4))
    return FlatHistories(
        users=np.arange(1, len(users) + 1),
        offsets=np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64),
        items=items.astype(np.int64),
        event_types=types.astype(np.int64),
        weights=weights.astype(np.float32),
        times=times.astype(np.int64),
        folds=np.zeros(len(events), dtype=np.int64),
    )


CODES = ItemCodes(categories=np.array([0, 1, 1, 2, 0], np.int32), price_bands=np.array([0, 4, 2, 9, 0], np.int32))


def test_activity_price_level_and_category_mix_follow_their_definitions() -> None:
    users = flat(
        [
            (1, PURCHASE, 1.0, 0),
            (3, VIEW, 0.5, DAY // 2),
            (2, PURCHASE, 1.0, 4 * DAY),
            (4, PURCHASE, 1.0, 4 * DAY),  # its category and price are unknown
            (99, PURCHASE, 1.0, 6 * DAY + DAY // 2),  # an item of after the fit
        ],
        [],
        [(3, VIEW, 0.0, 2 * DAY)],
    )
    rows = user_rows(pa.array(["u", "nobody", "w"]), users, 8 * DAY, CODES, (PURCHASE,), top=5).to_pylist()
    assert rows[0] == {
        "user_index": 1,
        "user_id": "u",
        "events": 5,
        "active_days": 3,
        "target_events": 4,
        "recency_days": 1.5,
        "tenure_days": 8.0,
        "mean_gap_days": 3.0,
        "price_level": 3.0,
        "categories": [1, 2],
        "category_shares": pytest.approx([0.8, 0.2]),
    }
    measures = ("recency_days", "tenure_days", "mean_gap_days", "price_level")
    assert [rows[1][name] for name in ("events", "active_days", "target_events")] == [0, 0, 0]
    assert [rows[1][name] for name in measures] == [None] * 4
    assert [rows[2][name] for name in measures] == [6.0, 6.0, None, None]
    assert (rows[1]["categories"], rows[2]["categories"]) == ([], [])


def test_the_largest_shares_are_named_and_ties_go_to_the_smaller_code() -> None:
    codes = ItemCodes(categories=np.array([0, 3, 2, 1], np.int32), price_bands=np.zeros(4, np.int32))
    users = flat([(1, VIEW, 1.0, 0), (2, VIEW, 1.0, 1), (3, VIEW, 2.0, 2)], [(2, VIEW, 1.0, 0)])
    rows = user_rows(pa.array(["u", "v"]), users, DAY, codes, (PURCHASE,), top=2).to_pylist()
    assert (rows[0]["categories"], rows[0]["category_shares"]) == ([1, 2], [0.5, 0.25])
    assert (rows[1]["categories"], rows[1]["category_shares"]) == ([2], [1.0])


def test_demographics_are_one_row_a_user_of_what_was_given(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("who,Age,town\nu, 30 ,Bonn\nu,31,Ulm\nv,,\n,9,Rom\n")
    demographics = Demographics(
        format="csv",
        path=str(tmp_path / "people.csv"),
        options={"header": "true"},
        columns={"user_id": "who", "age": "age", "city": "town"},
    )
    users = spark.createDataFrame([("u",), ("v",), ("w",)], "user_id string")
    read = read_demographics(spark, demographics)
    found = {row["user_id"]: row["attributes"] for row in with_attributes(users, read).collect()}
    assert found == {"u": {"age": "30", "city": "Bonn"}, "v": {}, "w": None}
    assert read_demographics(spark, None) is None
