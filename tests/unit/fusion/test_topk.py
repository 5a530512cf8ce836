"""The K best items of a row: exactly those that sorting the whole row would give."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_spark.fusion import topk
from recsys_spark.fusion.topk import GROUP, MANY, WIDE, stable_topk


@pytest.fixture(autouse=True, scope="module", params=[0, 4])
def few(request: pytest.FixtureRequest) -> Iterator[None]:
    """All tests, with rows taken together and one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "FEW", request.param)
        yield


def sorted_rows(scores: Tensor, k: int) -> list[list[int]]:
    """The oracle, in plain Python: by score downwards, then by code upwards."""
    return [sorted(range(len(row)), key=lambda code: (-row[code], code))[:k] for row in scores.tolist()]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 4),
    items=st.integers(1, 700),
    k=st.integers(1, 120),
    levels=st.sampled_from([1, 2, 7, 50, 10_000]),
    hidden=st.sampled_from([0.0, 0.1, 0.97, 1.0]),
    seed=st.integers(0, 1_000_000),
)
def test_the_list_is_the_head_of_the_sorted_row(
    rows: int, items: int, k: int, levels: int, hidden: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-levels, levels, (rows, items), generator=generator) / 3
    scores[torch.rand(rows, items, generator=generator) < hidden] = -torch.inf
    assert stable_topk(scores, k).tolist() == sorted_rows(scores, k)


@pytest.mark.parametrize("items", [9 * WIDE, 1000, 12_007])
def test_wide_rows_without_ties(items: int) -> None:
    scores = torch.stack([torch.randperm(items, generator=torch.Generator().manual_seed(s)) for s in range(3)]).float()
    assert stable_topk(scores, 8).tolist() == sorted_rows(scores, 8)


def test_a_group_that_holds_the_whole_list_is_enough() -> None:
    # With lists of 9 a group is 32 items: all of the best stand in one of them.
    scores = torch.zeros(1, 2000)
    scores[0, 320:329] = torch.arange(9.0) + 1
    assert stable_topk(scores, 9).tolist() == [list(range(328, 319, -1))]


def test_rows_with_many_items_above_the_bound_are_exact_too() -> None:
    # One group in thirty holds all that is not zero, so the bound is zero and all of them are candidates.
    k, items = 2, GROUP * 200
    scores = torch.zeros(3, items)
    scores[1, : MANY * k + 1] = torch.arange(MANY * k + 1) + 1.0
    scores[2, : MANY * k] = torch.arange(MANY * k) + 1.0
    assert stable_topk(scores, k).tolist() == [[0, 1], [MANY * k, MANY * k - 1], [MANY * k - 1, MANY * k - 2]]


def test_items_behind_the_last_group_are_found() -> None:
    scores = torch.arange(100_003).float()[None]
    assert stable_topk(scores, 50).tolist() == [list(range(100_002, 99_952, -1))]


def test_equal_scores_everywhere_give_the_first_items() -> None:
    for score in (0.0, -torch.inf, torch.inf):
        assert stable_topk(torch.full((3, 5000), score), 100).tolist() == [list(range(100))] * 3


def test_zero_and_minus_zero_are_equals() -> None:
    scores = torch.tensor([0.0, -0.0] * 400)[None]
    assert stable_topk(scores, 5).tolist() == [[0, 1, 2, 3, 4]]


def test_scores_that_are_a_part_of_a_wider_matrix_are_read_as_they_lie() -> None:
    whole = torch.randn(4, 3000, generator=torch.Generator().manual_seed(0))
    part = whole[:, 500:2500]
    assert torch.equal(stable_topk(part, 20), stable_topk(part.contiguous(), 20))


def test_scores_are_left_as_they_were() -> None:
    scores = torch.randint(0, 3, (5, 4000), generator=torch.Generator().manual_seed(2)).float()
    before = scores.clone()
    stable_topk(scores, 10)
    assert torch.equal(scores, before)
