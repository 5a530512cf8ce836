"""What lists are like, by hand and by other people's functions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.special import rel_entr

from recsys_spark.evaluation.beyond import SMOOTHING, calibration, diversity, list_means
from recsys_spark.evaluation.item_facts import ItemFacts, age_names, popularity_strata


def facts(categories: list[int], vectors: np.ndarray | None = None, popularity: list[float] | None = None) -> ItemFacts:
    size = len(categories)
    share = np.array(popularity or [0.5] * size)
    return ItemFacts(
        known=np.ones(size, dtype=bool),
        popularity=share,
        surprise=-np.log2(share),
        stratum=np.zeros(size, dtype=np.int64),
        age=np.zeros(size, dtype=np.int64),
        category=np.array(categories),
        categories=max(categories) + 1,
        vectors=vectors,
    )


def one(*items: int) -> np.ndarray:
    return np.array([[list(items)]])


def test_novelty_is_the_mean_of_bits_over_what_is_listed() -> None:
    known = facts([0] * 4, popularity=[0.5, 0.25, 0.125, 1.0])
    found = list_means(one(0, 1, 2, -1), known.surprise, (2, 4))
    assert found[2].item() == pytest.approx((1 + 2) / 2)
    assert found[4].item() == pytest.approx((1 + 2 + 3) / 3)
    assert list_means(one(-1, -1), known.surprise, (2,))[2].item() == 0


def test_diversity_is_the_mean_cosine_distance_of_scipy() -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(9, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[8] = 0  # has none
    known = facts([0] * 9, vectors)
    found = diversity(np.array([[[0, 3, 5, 7], [2, 8, 4, -1]]]), known, (3, 4))
    assert found[4][0][0, 0] == pytest.approx(pdist(vectors[[0, 3, 5, 7]], "cosine").mean(), abs=1e-6)
    assert found[3][0][0, 0] == pytest.approx(pdist(vectors[[0, 3, 5]], "cosine").mean(), abs=1e-6)
    assert found[4][0][0, 1] == pytest.approx(pdist(vectors[[2, 4]], "cosine").item(), abs=1e-6)
    assert not diversity(one(0, -1), known, (2,))[2][1].item()  # one item is no pair


def test_diversity_without_vectors_is_the_share_of_pairs_of_two_categories() -> None:
    known = facts([0, 0, 1, 1, -1])
    found = diversity(one(0, 1, 2, 4), known, (4,))  # pairs: 0-1 alike, 0-2 and 1-2 not; 4 has no category
    assert found[4][0].item() == pytest.approx(2 / 3)


def test_calibration_is_scipys_divergence_of_smoothed_shares() -> None:
    known = facts([0, 0, 1, 2, -1])
    # Two users: three target events in category 0 and one in 1; and one event in category 2.
    rows, items = np.array([0, 0, 0, 0, 1]), np.array([0, 1, 0, 2, 3])
    lists = np.array([[[0, 2, 3, 4], [0, 1, 0, 2]], [[0, 1, 2, -1], [3, -1, -1, -1]]])
    found = calibration(lists, rows, items, known, (2, 4))

    def divergence(own: list[float], listed: list[float]) -> float:
        p, q = np.array(own), np.array(listed)
        return rel_entr(p, (1 - SMOOTHING) * q + SMOOTHING * p).sum()

    first, second = [3 / 4, 1 / 4, 0.0], [0.0, 0.0, 1.0]
    assert found[4][0][0, 0] == pytest.approx(divergence(first, [1 / 3, 1 / 3, 1 / 3]))
    assert found[2][0][0, 0] == pytest.approx(divergence(first, [1 / 2, 1 / 2, 0]))
    assert found[4][0][0, 1] == pytest.approx(0, abs=1e-12)  # the list is as the user
    assert found[4][0][1, 0] == pytest.approx(divergence(second, [2 / 3, 1 / 3, 0]))
    assert found[4][0][1, 0] == pytest.approx(np.log(1 / SMOOTHING))
    assert found[4][0][1, 1] == pytest.approx(0, abs=1e-12)
    assert found[4][1].all()


def test_a_user_without_a_history_of_categories_is_left_out_of_calibration() -> None:
    found = calibration(one(0, 1), np.array([0]), np.array([2]), facts([0, 0, -1]), (2,))
    assert not found[2][1].item()


def test_strata_hold_their_shares_of_events_and_equal_counts_stay_together() -> None:
    # 100 events: 50, then 20 and 20, then ten of 1.
    counts = np.array([20, 50, 20, *[1] * 10, 0])
    assert popularity_strata(counts, (0.5, 0.8)).tolist() == [1, 0, 1, *[2] * 10, 2]
    assert popularity_strata(counts, (0.51, 0.8)).tolist() == [0, 0, 0, *[2] * 10, 2]
    assert popularity_strata(np.zeros(3, dtype=np.int64), (0.5, 0.8)).tolist() == [2, 2, 2]


def test_ages_are_named_by_their_days() -> None:
    assert age_names((30, 180)) == ("under 30 days", "30 to 179 days", "from 180 days")
