"""Blocks of lists against other people's implementations of the metrics."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, ndcg_score

from recsys_spark.evaluation.ranking import METRICS, ranking_metrics

ITEMS, PLACES = 30, 12


def drawn(users: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """[U, PLACES] lists and [U, ITEMS] relevance, from 1 to 20 relevant items each."""
    random = np.random.default_rng(seed)
    lists = np.stack([random.permutation(ITEMS)[:PLACES] for _ in range(users)])
    relevance = np.zeros((users, ITEMS), dtype=bool)
    for user in range(users):
        relevance[user, random.permutation(ITEMS)[: random.integers(1, 21)]] = True
    return lists, relevance


def measured(lists: np.ndarray, relevance: np.ndarray, ks: tuple[int, ...]) -> dict:
    hits = np.take_along_axis(relevance, lists, axis=1)[:, None, :]
    return {key: value[:, 0] for key, value in ranking_metrics(hits, relevance.sum(axis=1)[:, None], ks).items()}


def scores_of(lists: np.ndarray) -> np.ndarray:
    """[U, ITEMS] scores that put the listed items first, in their order."""
    scores = np.zeros((len(lists), ITEMS))
    np.put_along_axis(scores, lists, np.arange(PLACES, 0, -1.0)[None, :], axis=1)
    return scores


def test_ndcg_is_that_of_scikit_learn() -> None:
    lists, relevance = drawn(200)
    found = measured(lists, relevance, (5, 10))
    for k in (5, 10):
        theirs = [ndcg_score(r[None], s[None], k=k) for r, s in zip(relevance, scores_of(lists), strict=True)]
        np.testing.assert_allclose(found["ndcg", k], theirs, atol=1e-12)


def test_average_precision_is_that_of_scikit_learn_where_all_relevant_items_are_listed() -> None:
    random = np.random.default_rng(5)
    lists = np.stack([random.permutation(PLACES) for _ in range(100)])
    relevance = np.zeros((100, ITEMS), dtype=bool)
    for user in range(100):
        relevance[user, random.permutation(PLACES)[: random.integers(1, PLACES)]] = True
    found = measured(lists, relevance, (PLACES,))["map", PLACES]
    scores = scores_of(lists)
    theirs = [average_precision_score(r, s) for r, s in zip(relevance, scores, strict=True)]
    np.testing.assert_allclose(found, theirs, atol=1e-12)


def test_reciprocal_rank_is_that_of_scikit_learn_where_one_item_is_relevant() -> None:
    lists, _ = drawn(100)
    relevance = np.zeros((100, ITEMS), dtype=bool)
    relevance[np.arange(100), lists[np.arange(100), np.arange(100) % PLACES]] = True
    found = measured(lists, relevance, (PLACES,))["mrr", PLACES]
    scores = scores_of(lists)
    theirs = [label_ranking_average_precision_score(r[None], s[None]) for r, s in zip(relevance, scores, strict=True)]
    np.testing.assert_allclose(found, theirs, atol=1e-12)


def test_precision_recall_and_hits_by_sets() -> None:
    lists, relevance = drawn(100)
    found = measured(lists, relevance, (1, 7))
    for user in range(100):
        wanted = set(np.flatnonzero(relevance[user]).tolist())
        for k in (1, 7):
            hits = len(wanted & set(lists[user, :k].tolist()))
            assert found["precision", k][user] == hits / k
            assert found["recall", k][user] == hits / min(k, len(wanted))
            assert found["hit_rate", k][user] == (hits > 0)


def test_a_user_with_nothing_relevant_and_a_k_beyond_the_list_are_no_fault() -> None:
    hits = np.zeros((2, 1, 3), dtype=bool)
    hits[1, 0, 2] = True
    found = ranking_metrics(hits, np.array([[0], [5]]), (5,))
    assert [found[name, 5][0, 0] for name in METRICS] == [0.0] * 6
    assert found["precision", 5][1, 0] == pytest.approx(1 / 5)
    assert found["recall", 5][1, 0] == pytest.approx(1 / 5)


@pytest.mark.slow  # ranx compiles its metrics
def test_metrics_are_those_of_ranx() -> None:
    """Theirs divide recall and MAP by all relevant items: the same as ours where these are at most k."""
    ranx = pytest.importorskip("ranx", reason="pip install recsys-spark[check]")
    lists, relevance = drawn(300)
    for user in range(300):  # at most 5 relevant items each
        relevance[user, np.flatnonzero(relevance[user])[5:]] = False
    found = measured(lists, relevance, (5, 10))
    wanted = {f"u{u}": {f"i{i}": 1 for i in np.flatnonzero(row)} for u, row in enumerate(relevance)}
    listed = {f"u{u}": {f"i{i}": float(PLACES - place) for place, i in enumerate(row)} for u, row in enumerate(lists)}
    names = {
        "ndcg": "ndcg",
        "recall": "recall",
        "precision": "precision",
        "hit_rate": "hit_rate",
        "map": "map",
        "mrr": "mrr",
    }
    asked = [f"{theirs}@{k}" for theirs in names.values() for k in (5, 10)]
    theirs = ranx.evaluate(ranx.Qrels(wanted), ranx.Run(listed), asked)
    for ours, name in names.items():
        for k in (5, 10):
            assert found[ours, k].mean() == pytest.approx(theirs[f"{name}@{k}"], abs=1e-9), (ours, k)
