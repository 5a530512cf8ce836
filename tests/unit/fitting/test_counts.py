"""Rises and segments, on numbers small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import torch

from recsys_spark.fitting.segment_popularity import STEPS_AN_OCTAVE, level_edges, smoothed
from recsys_spark.fitting.trending import rise
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.segmenting import ByActivity, ByCategory


def test_a_shop_that_sells_twice_as_much_of_everything_has_nothing_on_the_rise():
    long = np.array([1.0, 20.0, 300.0, 0.0])
    np.testing.assert_allclose(rise(2 * long, long, 10.0), 0, atol=1e-12)


def test_a_rise_of_few_events_proves_less_than_the_same_of_many():
    one, many, rest = rise(np.array([2.0, 200.0, 100.0]), np.array([1.0, 100.0, 500.0]), 10.0)
    assert many > one > 0 > rest
    assert not rise(np.zeros(2), np.zeros(2), 10.0).any()


def test_shares_of_a_segment_are_drawn_to_those_of_all_and_users_without_one_get_these():
    shares = smoothed(np.array([[1.0, 0.0], [0.0, 3.0]]), 4.0)
    np.testing.assert_allclose(shares, [[0.25, 0.75], [1 / 7, 6 / 7]], rtol=1e-6)
    assert not smoothed(np.zeros((2, 3)), 4.0).any()


def test_levels_of_activity_have_about_as_many_users():
    edges = level_edges({0: 10, 16: 10, 32: 10, 48: 10}, 4)
    np.testing.assert_allclose(edges, [2.0, 4.0, 8.0])
    assert level_edges({5: 7}, 4).tolist() == []  # all alike: one level
    assert level_edges({}, 4).tolist() == []
    np.testing.assert_allclose(level_edges({0: 90, STEPS_AN_OCTAVE: 10}, 4), [2.0])


def batch() -> UserBatch:
    """Users: two events of item 0 long ago and one of item 1 now; item 2 alone; nothing."""
    return UserBatch(
        items=torch.tensor([0, 0, 1, 2]),
        event_types=torch.full((4,), 4),
        weights=torch.ones(4),
        ages=torch.tensor([30.0, 30.0, 0.0, 10.0]),
        offsets=torch.tensor([0, 3, 4, 4]),
    )


def test_the_segment_is_the_category_of_the_largest_decayed_weight():
    for half_life, first in ((10.0, 2), (1000.0, 1)):
        segments = ByCategory(torch.tensor([1, 2, 0]), 2, half_life).of(batch())
        assert segments.tolist() == [first, 0, 0]  # item 2 is of no segment


def test_the_level_is_that_of_the_decayed_events():
    levels = ByActivity(torch.tensor([1.0]), 10.0)
    assert levels.activity(batch()).tolist() == [1.25, 0.5, 0.0]
    assert levels.of(batch()).tolist() == [2, 1, 0]
