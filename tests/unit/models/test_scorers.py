from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recsys_spark.models.scorers import neumf
from recsys_spark.models.scorers.cosine import Cosine
from tests.unit.models.steps import DIM, composition


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_neumf_over_tiles_of_the_catalogue_equals_its_formula_pair_by_pair(layers, monkeypatch):
    monkeypatch.setattr(neumf, "TILE_BYTES", 256)
    generator = torch.Generator().manual_seed(layers)
    scorer = neumf.NeuMF(composition(layers=layers))
    scorer.reset_parameters(generator)
    users, items = torch.randn(3, DIM, generator=generator), torch.randn(50, DIM, generator=generator)
    weight = torch.cat((scorer.user_layer.weight, scorer.item_layer.weight), dim=1)
    with torch.no_grad():
        scores = scorer.matrix(scorer.user_side(users), scorer.item_side(items))
        for user in range(3):
            for item in range(50):
                product = scorer.gmf @ (users[user, : DIM // 2] * items[item, : DIM // 2])
                hidden = (
                    torch.cat((users[user, DIM // 2 :], items[item, DIM // 2 :])) @ weight.T + scorer.user_layer.bias
                )
                hidden = hidden.relu()
                for layer in scorer.hidden:
                    hidden = layer(hidden).relu()
                torch.testing.assert_close(scores[user, item], product + scorer.out @ hidden, atol=1e-5, rtol=1e-4)
        pairs = scorer.pairs(scorer.user_side(users), scorer.item_side(items).expand(3, 50, DIM))
    torch.testing.assert_close(pairs, scores, atol=1e-5, rtol=1e-4)


def cosine(temperature: float = 0.25) -> Cosine:
    scorer = Cosine(composition(temperature=temperature))
    scorer.reset_parameters(torch.Generator())
    return scorer


def test_the_cosine_is_one_over_the_temperature_at_most_and_knows_no_lengths():
    scorer, generator = cosine(), torch.Generator().manual_seed(0)
    users, items = torch.randn(5, DIM, generator=generator), torch.randn(7, DIM, generator=generator)
    with torch.no_grad():
        scores = scorer.matrix(scorer.user_side(users), scorer.item_side(items))
        scaled = scorer.matrix(scorer.user_side(users * 10), scorer.item_side(items / 3))
        own = scorer.matrix(scorer.user_side(items), scorer.item_side(items)).diagonal()
    torch.testing.assert_close(scores, F.cosine_similarity(users[:, None], items, dim=2) / 0.25)
    torch.testing.assert_close(scores, scaled)
    torch.testing.assert_close(own, torch.full((7,), 4.0))


@pytest.mark.parametrize("far", [-50.0, 50.0])
def test_the_temperature_stays_within_its_bounds_wherever_training_takes_it(far):
    scorer = cosine()
    with torch.no_grad():
        scorer.scale_logit.fill_(far)
        length = float(scorer.user_side(torch.ones(1, DIM)).norm())
    assert length == pytest.approx(1.0 if far < 0 else 100.0, rel=1e-4)


def test_the_temperature_is_learnt():
    scorer = cosine()
    scorer.user_side(torch.ones(1, DIM)).sum().backward()
    assert scorer.scale_logit.grad.abs() > 0
