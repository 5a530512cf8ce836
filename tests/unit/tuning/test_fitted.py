"""A trial's NDCG@10 is that of the lists that would be published."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys_spark.fusion.candidates import Candidates
from recsys_spark.tuning.fitted import mean_ndcg


def one_user(scores: list[float], relevant: list[bool], seen: list[bool], can_score: bool = True) -> Candidates:
    nothing = np.zeros((1, 1), dtype=np.float32)
    return Candidates(
        names=("repurchase",),
        scores=np.array(scores, dtype=np.float32)[None, :, None],
        present=np.ones((1, len(scores)), dtype=bool),
        seen=np.array([seen]),
        relevant=np.array([relevant]),
        relevant_count=np.array([sum(relevant)]),
        relevant_seen=np.array([sum(np.array(relevant) & seen)]),
        mean=nothing,
        deviation=nothing,
        log_sum_exp=nothing[:, :, None],
        can_score=np.array([[can_score]]),
    )


def test_items_at_the_silent_score_are_in_no_list() -> None:
    user = one_user([0.0, 2.0, 0.0], [True, True, False], [False, True, False])
    ideal = 1 + 1 / math.log2(3)
    assert mean_ndcg(user, "allow") == pytest.approx(1.0)
    assert mean_ndcg(user, "allow", 0.0) == pytest.approx(1 / ideal)
    assert mean_ndcg(user, "drop") == pytest.approx(1.0)
    assert mean_ndcg(user, "drop", 0.0) == 0.0


def test_a_user_who_cannot_be_scored_counts_nothing() -> None:
    assert mean_ndcg(one_user([1.0], [True], [False], can_score=False), "allow") == 0.0
