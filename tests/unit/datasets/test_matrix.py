from __future__ import annotations

import numpy as np
import pytest

from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.datasets.matrix import matrix_rows

DAY = 86_400
NOW = 100 * DAY


def bought(*events: tuple[int, int, float]) -> FlatHistories:
    """One user's (item, age in days, weight)."""
    items, ages, weights = (np.array(column) for column in zip(*events, strict=True))
    return FlatHistories(
        users=np.array([7]),
        offsets=np.array([0, len(items)]),
        items=items.astype(np.int64),
        event_types=np.zeros(len(items), dtype=np.int64),
        weights=weights.astype(np.float32),
        times=(NOW - ages * DAY).astype(np.int64),
        folds=np.zeros(len(items), dtype=np.int64),
    )


def test_a_weight_halves_with_each_half_life_before_the_fits_cut() -> None:
    flat = bought((3, 20, 1.0), (5, 10, 0.5), (3, 0, 1.0))
    decayed = matrix_rows(flat, 1, NOW, half_life_days=10).columns
    assert decayed["item"].tolist() == [3, 5]
    assert decayed["weight"] == pytest.approx([1.25, 0.25])
    assert matrix_rows(flat, 1, NOW + 10 * DAY, 10).columns["weight"] == pytest.approx([0.625, 0.125])


def test_without_a_half_life_weights_are_summed_and_the_newest_time_is_kept() -> None:
    columns = matrix_rows(bought((3, 20, 1.0), (5, 10, 0.5), (3, 0, 0.25)), 1, NOW).columns
    assert columns["weight"].tolist() == [1.25, 0.5]
    assert columns["count"].tolist() == [2, 1]
    assert columns["last_time"].tolist() == [NOW, NOW - 10 * DAY]
    assert columns["user_index"].tolist() == [7, 7]


def test_users_without_events_have_no_rows() -> None:
    flat = bought((3, 1, 1.0)).keep(np.array([False]))
    for half_life in (None, 3.0):
        rows = matrix_rows(flat, 1, NOW, half_life)
        assert [len(column) for column in rows.columns.values()] == [0] * 5
        assert len(rows.key) == 0
