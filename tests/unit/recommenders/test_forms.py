"""Scores that are not written out: every form must say of itself what its matrix says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recsys_spark.recommenders import sums as sums_module
from recsys_spark.recommenders.attributed import AttributedProduct, KindMoments
from recsys_spark.recommenders.forms import (
    CELLS_AT_ONCE,
    Cells,
    Columns,
    Form,
    ItemSide,
    Matrix,
    Product,
    RunningMoments,
    SameRow,
    Sums,
)

USERS, ITEMS, WIDTH = 5, 40, 6
CAN = torch.tensor([True, True, False, True, True])
FACTORS = torch.tensor([0.5, 2.0, 0.0, -1.0, 3.0])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def matrix() -> tuple[Form, Tensor]:
    scores = drawn(USERS, ITEMS) * CAN[:, None] + 0.0
    return Matrix(scores.clone(), CAN), scores


def product() -> tuple[Form, Tensor]:
    users, items = drawn(USERS, WIDTH, seed=1) * CAN[:, None], drawn(ITEMS, WIDTH, seed=2)
    scores = torch.zeros(USERS, ITEMS)
    for user in range(USERS):
        for item in range(ITEMS):
            scores[user, item] = sum(users[user, d] * items[item, d] for d in range(WIDTH))
    return Product(users, ItemSide(items), CAN), scores


def product_with_biases() -> tuple[Form, Tensor]:
    users, items, biases = drawn(USERS, WIDTH, seed=3), drawn(ITEMS, WIDTH, seed=4), 5 + drawn(ITEMS, seed=5)
    return Product(users, ItemSide(items, biases), CAN), (users @ items.T + biases) * CAN[:, None]


def product_with_kinds() -> tuple[Form, Tensor]:
    own, scores = product_with_biases()
    kinds, table = torch.arange(ITEMS) * 3 % 7, drawn(USERS, 7, seed=8)
    assert isinstance(own, Product)
    for user in range(USERS):
        for item in range(ITEMS):
            scores[user, item] += table[user, kinds[item]] * CAN[user]
    return AttributedProduct(own, table, KindMoments(own.side, kinds)), scores


def cells() -> tuple[Form, Tensor]:
    scores = torch.zeros(USERS, ITEMS)
    scores[0, 3], scores[0, 1], scores[3, 39], scores[4, 0] = 2.0, -1.0, 4.0, 0.5
    offsets, items = torch.tensor([0, 2, 2, 2, 3, 4]), torch.tensor([3, 1, 39, 0])
    return Cells(offsets, items, torch.tensor([2.0, -1.0, 4.0, 0.5]), ITEMS, CAN), scores


def same_row() -> tuple[Form, Tensor]:
    row = drawn(ITEMS, seed=6)
    return SameRow(row, CAN), row * CAN[:, None]


def columns() -> tuple[Form, Tensor]:
    codes = torch.tensor([3, 7, 38])
    some = drawn(USERS, 3, seed=10) * CAN[:, None]
    scores = torch.zeros(USERS, ITEMS)
    scores[:, codes] = some
    moments = RunningMoments(USERS)
    moments.add(some[:, :2])
    moments.add(some[:2, 2:], slice(0, 2))
    moments.add(some[2:, 2:], slice(2, USERS))
    return Columns(some, codes, ITEMS, CAN, moments.over(ITEMS)), scores


MAKERS = [matrix, product, product_with_biases, product_with_kinds, cells, same_row, columns]
every_form = pytest.mark.parametrize("make", MAKERS)


@every_form
def test_a_form_written_out_is_its_scores_and_zero_for_users_that_cannot_be_scored(make) -> None:
    form, scores = make()
    torch.testing.assert_close(form.matrix_BI, scores)
    assert form.num_items == ITEMS


@every_form
def test_mean_and_deviation_are_those_of_the_scores(make) -> None:
    form, scores = make()
    mean, deviation = form.mean_and_deviation()
    assert mean.shape == deviation.shape == (USERS, 1)
    torch.testing.assert_close(mean[CAN, 0], scores.double().mean(1)[CAN].float())
    expected = scores.double().std(1, correction=0)[CAN].float().clamp_min(1e-12)
    torch.testing.assert_close(deviation[CAN, 0], expected)


@every_form
def test_rows_times_factors_are_added_to_whatever_was_there_and_the_form_stays(make) -> None:
    for first in MAKERS:
        there, before = first()
        form, scores = make()
        sums = Sums(USERS, ITEMS)
        there.add_to(sums, torch.ones(USERS) * CAN)
        form.add_to(sums, FACTORS)
        sums.add_offsets(torch.arange(5.0))
        total = sums.total()
        torch.testing.assert_close(total, before + FACTORS[:, None] * scores + torch.arange(5.0)[:, None])
        torch.testing.assert_close(form.matrix_BI, scores)
        torch.testing.assert_close(there.matrix_BI, before)


@every_form
def test_the_form_of_some_users_is_their_rows(make) -> None:
    form, scores = make()
    for rows in ([3, 0], [4], [], [1, 2, 3]):
        part = form.of(torch.tensor(rows, dtype=torch.int64))
        torch.testing.assert_close(part.matrix_BI, scores[rows])
        assert part.can_score.tolist() == CAN[rows].tolist()


def test_a_matrix_of_more_cells_than_are_worked_on_at_once_has_the_same_moments() -> None:
    scores = 100 + drawn(7, CELLS_AT_ONCE // 3)
    mean, deviation = Matrix(scores, torch.ones(7, dtype=torch.bool)).mean_and_deviation()
    torch.testing.assert_close(mean[:, 0], scores.double().mean(1).float())
    torch.testing.assert_close(deviation[:, 0], scores.double().std(1, correction=0).float())


def test_the_moments_of_a_product_keep_their_digits_where_the_mean_is_far_from_zero() -> None:
    users, items, biases = drawn(4, WIDTH, seed=7), drawn(3000, WIDTH, seed=8), 1000 + drawn(3000, seed=9)
    mean, deviation = Product(users, ItemSide(items, biases), torch.ones(4, dtype=torch.bool)).mean_and_deviation()
    scores = users.double() @ items.double().T + biases.double()
    torch.testing.assert_close(mean[:, 0], scores.mean(1).float())
    torch.testing.assert_close(deviation[:, 0], scores.std(1, correction=0).float())


def test_scores_that_differ_by_rounding_alone_are_not_blown_up() -> None:
    form = Product(torch.zeros(1, WIDTH), ItemSide(drawn(ITEMS, WIDTH), torch.full((ITEMS,), 0.1)), CAN[:1])
    mean, deviation = form.mean_and_deviation()
    assert ((form.matrix_BI - mean) / deviation).abs().max() <= 1.0


def test_sums_of_nothing_are_zero_and_offsets_stand_alone() -> None:
    assert torch.equal(Sums(2, 3).total(), torch.zeros(2, 3))
    sums = Sums(2, 3)
    sums.add_offsets(torch.tensor([1.0, 2.0]))
    sums.add_offsets(torch.tensor([0.5, -2.0]))
    assert torch.equal(sums.total(), torch.tensor([[1.5] * 3, [0.0] * 3]))


@pytest.mark.parametrize("users_joined", [1, 1000], ids=["products as one", "one after the other"])
@pytest.mark.parametrize("cells_at_once", [1, 2 * ITEMS, 1 << 21])
def test_all_forms_together_are_summed_up_whatever_is_made_at_once(monkeypatch, users_joined, cells_at_once) -> None:
    monkeypatch.setattr(sums_module, "JOINED_USERS", users_joined)
    monkeypatch.setattr(sums_module, "CELLS_AT_ONCE", cells_at_once)
    sums, expected = Sums(USERS, ITEMS), torch.zeros(USERS, ITEMS, dtype=torch.float64)
    for place, make in enumerate([*MAKERS, matrix, matrix, product, matrix]):  # more matrices than wait
        form, scores = make()
        form.add_to(sums, (place + 1) * FACTORS)
        expected += (place + 1) * FACTORS[:, None].double() * scores.double()
        if place == 3:
            sums.release()
    sums.add_gathered(drawn(USERS, 2, seed=11), torch.arange(ITEMS) % 2)
    expected += drawn(USERS, 2, seed=11).double().repeat(1, ITEMS // 2)
    torch.testing.assert_close(sums.total().double(), expected, rtol=1e-5, atol=1e-4)


def test_catalogue_sides_laid_side_by_side_are_made_once_and_never_mistaken(monkeypatch) -> None:
    monkeypatch.setattr(sums_module, "JOINED_USERS", 1)
    for seed in range(5):  # tensors that are gone make room for others at the same address
        users, items, row = drawn(3, WIDTH), drawn(ITEMS, WIDTH, seed=seed), drawn(ITEMS, seed=seed + 10)
        made = sums_module._joined.cache_info().misses
        for _ in range(2):
            sums = Sums(3, ITEMS)
            sums.add_product(users, items)
            sums.add_row(torch.ones(3), row)
            torch.testing.assert_close(sums.total(), users @ items.T + row)
        assert sums_module._joined.cache_info().misses == made + 1
        del items, row
