"""The cascade: the costly recommenders score what the cheap ones found, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recsys_spark.fusion.blend import Resources, blend
from recsys_spark.fusion.cascade import normalised, retrievers
from recsys_spark.fusion.normalise import Normaliser, normalise, row_statistics
from recsys_spark.fusion.settings import Cascade, Component, FusionSettings
from tests.stacking import PURCHASE, Written, batch_of

TARGETS = torch.tensor([place == PURCHASE for place in range(6)])
RESOURCES = Resources(TARGETS)
CHEAP = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
COSTLY = torch.tensor([[1.0, 2.0, 6.0, 9.0, 9.0], [9.0, 9.0, 1.0, 5.0, 3.0]])
BATCH = batch_of([[], []])


def setting(candidates: int, *components: tuple[str, float, str]) -> FusionSettings:
    made = tuple(Component(name, weight, Normaliser(method)) for name, weight, method in components)
    return FusionSettings("cascade", made, cascade=Cascade(("cheap",), candidates))


def test_the_costly_one_orders_what_the_cheap_one_retrieved_and_never_scores_the_catalogue() -> None:
    made = {"cheap": Written("cheap", CHEAP), "costly": Written("costly", COSTLY)}
    [result] = blend(made, [setting(3, ("costly", 1.0, "none"))], BATCH, None, None, RESOURCES)
    low = -torch.inf
    assert result.fused.tolist() == [[1.0, 2.0, 6.0, low, low], [low, low, 1.0, 5.0, 3.0]]
    assert made["costly"].whole == 0
    assert result.names == ("costly",)


def test_scores_are_standardised_over_the_candidates() -> None:
    made = {"cheap": Written("cheap", CHEAP), "costly": Written("costly", COSTLY)}
    parts = (("cheap", 0.5, "zscore"), ("costly", 0.5, "zscore"))
    [result] = blend(made, [setting(3, *parts)], BATCH, None, None, RESOURCES)
    # Of user 0: cheap 4, 3, 2 has mean 3 and variance 2/3, costly 1, 2, 6 has mean 3 and variance 14/3.
    expected = [
        0.5 * (cheap - 3) / (2 / 3) ** 0.5 + 0.5 * (costly - 3) / (14 / 3) ** 0.5
        for cheap, costly in ((4, 1), (3, 2), (2, 6))
    ]
    assert result.fused[0, :3].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", ["none", "zscore", "softmax", "rank"])
def test_where_everything_is_a_candidate_normalising_is_that_of_the_catalogue(method: str) -> None:
    torch.manual_seed(0)
    scores, normaliser = torch.randn(3, 150), Normaliser(method, 0.5)  # type: ignore[arg-type]
    found = normalised(scores, torch.ones(3, 150, dtype=torch.bool), normaliser)
    assert torch.allclose(found, normalise(scores, normaliser, row_statistics(scores, normaliser)), atol=1e-5)


@pytest.mark.parametrize("method", ["none", "zscore", "softmax", "rank"])
def test_parts_add_up_and_who_cannot_score_leaves_its_weight_to_the_others(method: str) -> None:
    can = torch.tensor([True, False])
    made = {"cheap": Written("cheap", CHEAP), "costly": Written("costly", COSTLY, can)}
    parts = (("cheap", 0.25, method), ("costly", 0.75, method))
    [result] = blend(made, [setting(3, *parts)], BATCH, None, None, RESOURCES)
    items = torch.tensor([[0, 2], [4, 3]])
    found = result.parts(made, BATCH, items)
    assert torch.allclose(found.nansum(dim=2), result.fused.gather(1, items), atol=1e-6)
    assert result.weights.tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert found[1, :, 1].isnan().all()


def test_users_without_candidates_take_the_fallback() -> None:
    made = {"cheap": Written("cheap", CHEAP, torch.zeros(2, dtype=torch.bool)), "costly": Written("costly", COSTLY)}
    popular = Written("popularity", CHEAP)
    [result] = blend(made, [setting(3, ("costly", 1.0, "none"))], BATCH, popular, None, RESOURCES)
    assert torch.equal(result.fused, CHEAP[:1].expand(2, 5))
    assert (result.weights == 0).all()


def test_blocks_of_users_do_not_change_scores() -> None:
    torch.manual_seed(1)
    tables: list[Tensor] = [torch.randn(8, 40).round(decimals=1) for _ in range(2)]
    made = {"cheap": Written("cheap", tables[0]), "costly": Written("costly", tables[1])}
    batch = batch_of([[(item, 1.5) for item in range(user)] for user in range(8)])
    one = setting(7, ("cheap", 0.5, "rank"), ("costly", 0.5, "softmax"))
    [whole] = blend(made, [one], batch, None, None, RESOURCES)
    for user in range(8):
        [alone] = blend(made, [one], batch.rows(user, user + 1), None, None, RESOURCES)
        assert torch.allclose(alone.fused[0], whole.fused[user], atol=1e-6)


def test_the_cheap_ones_among_the_models_retrieve_where_none_is_named() -> None:
    assert retrievers(["gru", "ease", "popularity"], None) == ("ease", "popularity")
    assert retrievers(["gru", "sasrec"], None) == ("gru", "sasrec")
    assert retrievers(["gru", "ease"], ["gru"]) == ("gru",)
