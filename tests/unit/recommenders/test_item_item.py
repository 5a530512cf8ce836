from __future__ import annotations

import pytest
import torch

from recsys_spark.recommenders import ease, item_item
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.decayed import decayed_items
from recsys_spark.recommenders.ease import DenseItems
from recsys_spark.recommenders.forms import Cells, Matrix
from recsys_spark.recommenders.item_item import NeighbourItems

# W[j, i] over five items; item 4 has no neighbour and is not covered.
W = torch.tensor(
    [
        [0.0, 0.5, 0.2, 0.0, 0.0],
        [0.5, 0.0, 0.0, 0.1, 0.0],
        [0.2, 0.0, 0.0, 0.4, 0.0],
        [0.0, 0.1, 0.4, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
    ]
)


def neighbours() -> NeighbourItems:
    filled = W != 0
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), filled.sum(1).cumsum(0)])
    return NeighbourItems("item_knn", indptr, filled.nonzero()[:, 1].int(), W[filled], 10.0)


def dense() -> DenseItems:
    return DenseItems("ease", 5, torch.arange(4), W[:4, :4].contiguous(), 10.0)


def batch(*users: list[tuple[int, float]], weight: float = 1.0) -> UserBatch:
    """Users as lists of (item, age in days)."""
    events = [event for events in users for event in events]
    return UserBatch(
        items=torch.tensor([item for item, _ in events], dtype=torch.int64),
        event_types=torch.full((len(events),), 4),
        weights=torch.full((len(events),), weight),
        ages=torch.tensor([age for _, age in events], dtype=torch.float32),
        offsets=torch.tensor([0, *torch.tensor([len(events) for events in users]).cumsum(0).tolist()]),
    )


both = pytest.mark.parametrize("make", [neighbours, dense])


@both
def test_the_score_is_the_sum_over_the_history_of_decayed_weight_times_similarity(make):
    scores = make().score(batch([(0, 10.0), (2, 20.0)])).scores[0]  # one half-life and two: weights 1/2 and 1/4
    torch.testing.assert_close(scores, 0.5 * W[0] + 0.25 * W[2])


@both
def test_events_of_one_item_add_up_to_at_most_one(make):
    often = make().score(batch([(0, 0.0), (0, 0.0), (0, 5.0)])).scores[0]
    torch.testing.assert_close(often, W[0])
    twice = make().score(batch([(0, 20.0), (0, 20.0)])).scores[0]
    torch.testing.assert_close(twice, 0.5 * W[0])


@both
def test_a_history_of_items_without_similarities_cannot_be_scored(make):
    result = make().score(batch([(4, 1.0)], [(4, 1.0), (1, 0.0)]))
    assert result.can_score.tolist() == [False, True]
    assert not result.scores[0].any()
    torch.testing.assert_close(result.scores[1], W[1])


@both
def test_events_without_weight_say_nothing(make):
    assert make().score(batch([(0, 1.0)], weight=0.0)).can_score.tolist() == [False]


@both
def test_the_evidence_is_the_history_item_with_the_largest_term(make):
    history = batch([(0, 0.0), (2, 0.0), (3, 10.0)], [], [(4, 0.0)])
    evidence = make().evidence(history, torch.tensor([[3, 2, 1, 4], [0, 1, 2, 3], [0, 1, 2, 3]]))
    # 3: only 2 speaks for it; 2: 0 says 0.2 and 3 says 0.4 / 2, of equals the smaller code; 1: 0 before 3; 4: nobody.
    assert evidence.items.tolist() == [[2, 0, 0, -1], [-1] * 4, [-1] * 4]
    assert evidence.kind == "bought_with"


def test_portions_of_any_size_give_the_same_scores(monkeypatch):
    users = batch([(0, 1.0), (1, 2.0)], [], [(2, 3.0)], [(3, 1.0), (0, 4.0), (1, 1.0)], [(4, 1.0)])
    items = torch.tensor([[0, 1, 2]] * 5)
    whole, given, named = (
        neighbours().score(users).scores,
        neighbours().score_items(users, items),
        neighbours().evidence(users, items).items,
    )
    for terms, cells in ((1, 1), (3, 10), (1 << 20, 5)):
        monkeypatch.setattr(item_item, "TERMS_AT_ONCE", terms)
        monkeypatch.setattr(item_item, "CELLS_AT_ONCE", cells)
        torch.testing.assert_close(neighbours().score(users).scores, whole)
        torch.testing.assert_close(neighbours().score_items(users, items), given)
        assert neighbours().evidence(users, items).items.equal(named)


def test_the_dense_and_the_sparse_product_of_histories_agree(monkeypatch):
    users = batch([(0, 1.0), (1, 2.0)], [], [(2, 3.0)])
    monkeypatch.setattr(ease, "TILE", 3)  # the last of two tiles has two columns of padding
    in_one_call = dense().form(users)
    torch.testing.assert_close(in_one_call.matrix_BI, dense().score(users).scores)
    for together in (1, 6):  # one tile a call, and both
        monkeypatch.setattr(ease, "TOGETHER", together)
        for share in (0.0, 2.0):
            monkeypatch.setattr(ease, "DENSE_SHARE", share)
            form = dense().form(users)
            torch.testing.assert_close(form.matrix_BI, in_one_call.matrix_BI)
            for one, other in zip(form.mean_and_deviation(), in_one_call.mean_and_deviation(), strict=True):
                torch.testing.assert_close(one, other)


def test_history_items_are_distinct_and_ordered_by_user_and_code():
    history = decayed_items(batch([(3, 0.0), (1, 10.0), (3, 10.0)], [], [(0, 10.0)]), 5, 10.0)
    assert history.users.tolist() == [0, 0, 2]
    assert history.items.tolist() == [1, 3, 0]
    assert history.weights.tolist() == [0.5, 1.5, 0.5]
    assert history.offsets.tolist() == [0, 2, 2, 3]
    assert history.known.tolist() == [True, False, True]


def drawn_batch(users: int, items: int) -> UserBatch:
    generator = torch.Generator().manual_seed(0)
    return UserBatch(
        items=torch.randint(items, (5 * users,), generator=generator),
        event_types=torch.full((5 * users,), 4),
        weights=torch.ones(5 * users),
        ages=torch.rand(5 * users, generator=generator).double(),
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(users) * 5 + 5]),
    )


@pytest.mark.parametrize("count", [256, 300])
def test_a_dense_matrix_in_tiles_scores_as_the_matrix_does(count):
    weights = torch.randn(count, count, generator=torch.Generator().manual_seed(1)).fill_diagonal_(0.0)
    covered = torch.arange(count) * 2 + 1  # every other item of 2 count
    made, users = DenseItems("ease", 2 * count, covered, weights, 1e9), drawn_batch(30, 2 * count)
    history = torch.zeros(30, 2 * count, dtype=torch.float64)
    history[users.users, users.items] = 1.0
    expected = torch.zeros(30, 2 * count, dtype=torch.float64)
    expected[:, covered] = history[:, covered] @ weights.double()
    torch.testing.assert_close(made.score(users).scores.double(), expected, rtol=1e-5, atol=1e-5)
    form = made.form(users)
    torch.testing.assert_close(form.matrix_BI.double(), expected, rtol=1e-5, atol=1e-5)
    mean, deviation = form.mean_and_deviation()
    torch.testing.assert_close(mean[:, 0].double(), expected.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(deviation[:, 0].double(), expected.std(1, correction=0), rtol=1e-5, atol=1e-6)
    items = torch.arange(2 * count).expand(30, -1)
    torch.testing.assert_close(made.score_items(users, items).double(), expected, rtol=1e-5, atol=1e-5)
    again = DenseItems("ease", 2 * count, covered, made.tiles, 1e9)  # as a bundle holds it
    assert torch.equal(again.score(users).scores, made.score(users).scores)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch without MKL")
@pytest.mark.parametrize("cells_at_once", [1, 1 << 20])
def test_rows_of_neighbours_that_are_written_out_are_those_of_the_cells(monkeypatch, cells_at_once):
    made, users = neighbours(), drawn_batch(30, 5)
    monkeypatch.setattr(item_item, "WRITTEN_AT_ONCE", cells_at_once)
    forms = []
    for worth in (0, 1000):
        monkeypatch.setattr(item_item, "NEIGHBOURS_WORTH", worth)
        forms.append(made.form(users))
    assert [type(form) for form in forms] == [Cells, Matrix]
    torch.testing.assert_close(forms[1].matrix_BI, forms[0].matrix_BI)
    for one, other in zip(forms[0].mean_and_deviation(), forms[1].mean_and_deviation(), strict=True):
        torch.testing.assert_close(one, other)
