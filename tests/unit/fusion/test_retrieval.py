"""Who is a candidate, and where."""

from __future__ import annotations

import pytest
import torch

from recsys_spark.fusion.retrieval import Proposals

NOBODY = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
FIRST = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
EVERYBODY = torch.ones(2, dtype=torch.bool)


def test_candidates_are_the_best_of_each_and_the_best_unseen() -> None:
    proposals = Proposals(2, (torch.tensor([0, 0]), torch.tensor([0, 1])), 5)
    proposals.add(FIRST, EVERYBODY, None)
    proposals.add(FIRST.flip(1), torch.tensor([False, True]), None)
    found = proposals.union()
    assert [row[inside].tolist() for row, inside in zip(found.items_BC, found.present_BC, strict=True)] == [
        [0, 1, 2, 3],  # the second cannot score the first user
        [0, 1, 3, 4],
    ]


def test_items_of_which_a_recommender_has_nothing_to_say_are_no_candidates() -> None:
    proposals = Proposals(3, NOBODY, 5)
    proposals.add(torch.tensor([[0.0, 0.0, 7.0, 0.0, 1.0], [0.0] * 5]), EVERYBODY, 0.0)
    found = proposals.union()
    assert found.items_BC[0][found.present_BC[0]].tolist() == [2, 4]
    assert not found.present_BC[1].any()


def test_of_equals_the_lower_code_is_the_candidate() -> None:
    proposals = Proposals(2, NOBODY, 5)
    proposals.add(torch.ones(2, 5), EVERYBODY, None)
    assert proposals.union().items_BC.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("silent", [None, 0.0])
def test_however_many_were_seen_the_best_unseen_are_candidates(silent: float | None) -> None:
    draw = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 9, (40, 60), generator=draw).float()  # many equals
    seen = torch.rand(40, 60, generator=draw) < torch.linspace(0, 1, 40)[:, None]
    can = torch.arange(40) % 5 > 0
    depth = 7
    proposals = Proposals(depth, tuple(torch.nonzero(seen, as_tuple=True)), 60)  # type: ignore[arg-type]
    proposals.add(scores * can[:, None], can, silent)
    found = proposals.union()
    for user in range(40):
        ranked = sorted(range(60), key=lambda item: (-float(scores[user, item]), item))
        unseen = [item for item in ranked if not seen[user, item]]
        wanted = {item for item in (*ranked[:depth], *unseen[:depth]) if silent is None or scores[user, item] != silent}
        own = found.items_BC[user][found.present_BC[user]].tolist()
        assert own == sorted(wanted if can[user] else ())


def test_items_are_found_among_the_candidates_and_the_padding_is_none() -> None:
    proposals = Proposals(2, NOBODY, 5)
    proposals.add(FIRST, torch.tensor([True, False]), None)
    proposals.add(FIRST[:, [4, 3, 2, 1, 0]], EVERYBODY, None)
    found = proposals.union()
    assert found.items_BC.shape == (2, 4)
    assert found.places_of(torch.tensor([[4, 0, 2], [0, 1, 4]])).tolist() == [[3, 0, -1], [0, 1, -1]]
    wide = found.over_catalogue(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 9.0, 9.0]]), 5)
    low = -torch.inf
    assert wide.tolist() == [[1.0, 2.0, low, 3.0, 4.0], [5.0, 6.0, low, low, low]]
