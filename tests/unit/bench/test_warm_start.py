"""The bench of warm starts judges last week's lists by this week's items."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from bench.replaying.steps import Ints, Shop, Steps
from bench.warm_start import K, _quality
from recsys_spark.recommenders.base import Recommender


def steps(codes: list[int], items: int) -> Steps:
    """One household that had one event of the first code, and then buys the others."""
    events = len(codes)
    shop = Shop(
        codes=np.array(codes),
        types=np.full(events, 4),
        weights=np.ones(events, dtype=np.float32),
        times=np.arange(events),
        targets=np.ones(events, dtype=bool),
        users=np.zeros(events, dtype=np.int64),
        offsets=np.array([0, events]),
        num_items=items,
    )
    one: Ints = np.array([1])
    return Steps(shop, np.array([0]), one, one, np.array([events]))


def ranking(*codes: int) -> Recommender:
    """A recommender with a fixed order of all its items."""
    scores = torch.zeros(1, max(K, len(codes)))
    scores[0, list(codes)] = torch.arange(len(codes), 0, -1, dtype=torch.float)
    return cast(Recommender, SimpleNamespace(score=lambda batch: SimpleNamespace(scores=scores)))


def test_a_hit_at_the_first_place_is_one_and_at_the_second_less() -> None:
    asked = steps([0, 7], items=10)
    assert _quality(ranking(7, 3), asked, None).tolist() == [1.0]
    np.testing.assert_allclose(_quality(ranking(3, 7), asked, None), 1 / np.log2(3))


def test_last_weeks_codes_are_told_in_this_weeks_numbers_and_what_it_lacks_is_missed() -> None:
    # Last week's item 7 has the code 8 now, since 0 came new; the household buys 8 and the new 0.
    judge = steps([1, 8, 0], items=11)
    moved: Any = np.arange(10) + 1
    found = _quality(ranking(7, 3), steps([0, 7], items=10), (judge, moved))
    np.testing.assert_allclose(found, 1 / (1 + 1 / np.log2(3)))
