"""The search of weights finds what was planted, and nothing more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_spark.fusion.candidates import Candidates
from recsys_spark.fusion.search import TEMPERATURES, recall, search_segments, search_weights
from recsys_spark.fusion.settings import single

USERS, ITEMS = 200, 60


def candidates(scores: np.ndarray, relevant: np.ndarray, seen: np.ndarray | None = None) -> Candidates:
    """All items are candidates, so the statistics over the catalogue are those over the candidates."""
    seen = np.zeros((USERS, ITEMS), dtype=bool) if seen is None else seen
    mean, deviation = scores.mean(axis=1), scores.std(axis=1)
    standard = (scores - mean[:, None]) / deviation[:, None]
    sums = np.stack([np.log(np.exp(standard / t).sum(axis=1)) for t in TEMPERATURES], axis=2)
    return Candidates(
        names=tuple("abc"[: scores.shape[2]]),
        scores=scores.astype(np.float32),
        present=np.ones((USERS, ITEMS), dtype=bool),
        seen=seen,
        relevant=relevant,
        relevant_count=relevant.sum(axis=1),
        relevant_seen=(relevant & seen).sum(axis=1),
        mean=mean.astype(np.float32),
        deviation=deviation.astype(np.float32),
        log_sum_exp=sums.astype(np.float32),
        can_score=np.ones((USERS, scores.shape[2]), dtype=bool),
    )


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two signals and a noise; relevant are the items with the largest sum of the signals."""
    random = np.random.default_rng(seed)
    first, second, noise = random.normal(size=(3, USERS, ITEMS))
    total = first + second
    relevant = total >= np.sort(total, axis=1)[:, -3:-2]
    return np.stack([first, 1000 * second + 5, noise], axis=2), relevant


def test_two_halves_of_the_truth_are_joined_and_the_noise_is_left_out() -> None:
    scores, relevant = planted()
    result = search_weights(candidates(scores, relevant), "allow", k=10, min_gain=0.001)
    assert {component.name for component in result.settings.components} == {"a", "b"}
    assert result.ndcg > 0.95
    assert max(result.singles.values()) < 0.8


def test_a_component_that_gains_too_little_is_left_out() -> None:
    scores, relevant = planted()
    result = search_weights(candidates(scores, relevant), "allow", k=10, min_gain=0.9)
    assert len(result.settings.components) == 1


def test_weights_add_up_to_one() -> None:
    scores, relevant = planted()
    result = search_weights(candidates(scores, relevant), "allow", k=10, min_gain=0.001)
    assert sum(component.weight for component in result.settings.components) == pytest.approx(1.0)


def test_ndcg_of_a_single_component_is_what_a_hand_computes() -> None:
    scores, relevant = planted()
    relevant = np.zeros_like(relevant)
    order = np.argsort(-scores[:, :, 0], axis=1)
    relevant[np.arange(USERS), order[:, 1]] = True  # always second: gain 1/log2(3), ideal 1
    result = search_weights(candidates(scores[:, :, :1], relevant), "allow", k=10, min_gain=0.001)
    assert result.singles["a"] == pytest.approx(1 / np.log2(3), abs=1e-6)


def test_under_drop_items_of_the_history_neither_compete_nor_count() -> None:
    scores, relevant = planted()
    order = np.argsort(-scores[:, :, 0], axis=1)
    seen = np.zeros_like(relevant)
    seen[np.arange(USERS), order[:, 0]] = True
    relevant = np.zeros_like(relevant)
    relevant[np.arange(USERS), order[:, 0]] = True
    relevant[np.arange(USERS), order[:, 1]] = True
    table = candidates(scores[:, :, :1], relevant, seen)
    assert search_weights(table, "drop", k=10, min_gain=0.001).singles["a"] == pytest.approx(1.0)


def test_the_search_is_deterministic() -> None:
    scores, relevant = planted()
    results = [search_weights(candidates(scores, relevant), "allow", k=10, min_gain=0.001) for _ in range(2)]
    assert results[0] == results[1]


def by_activity() -> Candidates:
    """Heavy users (every other one) follow the first signal, light ones the second."""
    scores, _ = planted()
    heavy = np.arange(USERS) % 2 == 0
    followed = np.where(heavy[:, None], scores[:, :, 0], scores[:, :, 1])
    table = candidates(scores, followed >= np.sort(followed, axis=1)[:, -3:-2])
    return replace(table, events=np.where(heavy, 60, 6))


def test_segments_get_the_weights_that_serve_them() -> None:
    table = by_activity()
    for_all = search_weights(table, "allow", k=10, min_gain=0.001)
    found = search_segments(table, "allow", 10, 0.001, for_all.settings, (5, 50), 50)
    assert for_all.ndcg < 0.9
    assert found is not None
    assert found.segments is not None
    assert {name: [c.name for c in own] for name, own in found.segments.components.items()} == {
        "light": ["b"],
        "heavy": ["a"],
    }
    assert found.components == for_all.settings.components


def test_small_segments_and_those_that_gain_nothing_take_the_weights_of_all() -> None:
    table = by_activity()
    for_all = search_weights(table, "allow", k=10, min_gain=0.001).settings
    assert search_segments(table, "allow", 10, 0.001, for_all, (5, 50), USERS) is None
    assert search_segments(table, "allow", 10, 0.9, for_all, (5, 50), 50) is None


def test_recall_of_the_stages_is_what_a_hand_counts() -> None:
    scores, relevant = planted()
    order = np.argsort(-scores[:, :, 0], axis=1)
    relevant = np.zeros_like(relevant)
    for place in (0, 1, 30):
        relevant[np.arange(USERS), order[:, place]] = True
    table = candidates(scores, relevant)
    table = replace(table, relevant_count=table.relevant_count + 1)  # and one that was not retrieved
    assert recall(table, "allow", 10, single("a")) == (pytest.approx(3 / 4), pytest.approx(2 / 4))
