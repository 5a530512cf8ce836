from __future__ import annotations

import pytest
import torch

from recsys_spark.models.composed import NEGATIVES, ComposedModel
from recsys_spark.models.composition import Composition
from recsys_spark.models.scorers import neumf
from recsys_spark.models.step import Negatives, Step

ITEMS, DIM = 9, 8
COMPOSITIONS = [
    ("mean", "neumf", "bce", 1),
    ("mean", "neumf", "bce", 2),
    ("gru", "dot", "sampled_softmax", 1),
    ("gru", "dot", "full_softmax", 2),
]
every_composition = pytest.mark.parametrize(("user_encoder", "scorer", "loss", "layers"), COMPOSITIONS)


def make(user_encoder: str, scorer: str, loss: str, layers: int, seed: int = 0) -> ComposedModel:
    composition = Composition(
        user_encoder=user_encoder,
        item_encoder="id",
        scorer=scorer,
        loss=loss,
        dim=DIM,
        layers=layers,
        dropout=0.0,
        num_items=ITEMS,
        max_length=6,
    )
    model = ComposedModel(composition)
    model.reset_parameters(torch.Generator().manual_seed(seed))
    return model


def step_of(histories: list[list[int]], width: int, loss: str) -> Step:
    """A step over the whole catalogue, so that rows are tokens."""
    padded = torch.tensor([tokens + [0] * (width + 1 - len(tokens)) for tokens in histories])
    real = padded[:, 1:] > 0
    inputs, targets = padded[:, :-1] * real, padded[:, 1:][real]
    if NEGATIVES[loss] == "each":
        shape = (targets.numel(), 2)
        negatives = Negatives(torch.full(shape, 9), torch.zeros(shape), torch.zeros(targets.numel()))
    else:
        negatives = Negatives(torch.arange(1, ITEMS + 1), torch.zeros(ITEMS))
    return Step(torch.arange(ITEMS + 1), inputs, real.flatten().nonzero().squeeze(1), targets, negatives)


def loss_and_gradients(model: ComposedModel, step: Step) -> list[torch.Tensor]:
    model.zero_grad()
    loss = model(step)
    loss.backward()
    gradients = [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in model.parameters() if p.grad is not None]
    return [loss.detach(), *gradients]


@every_composition
def test_padding_changes_neither_loss_nor_gradients(user_encoder, scorer, loss, layers):
    model = make(user_encoder, scorer, loss, layers)
    histories = [[1, 2, 3, 4], [5, 6], [7]]
    tight = loss_and_gradients(model, step_of(histories[:2], 3, loss))
    wide = loss_and_gradients(model, step_of(histories, 40, loss))
    for left, right in zip(tight, wide, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


@every_composition
def test_the_padding_row_gets_no_gradient(user_encoder, scorer, loss, layers):
    model = make(user_encoder, scorer, loss, layers)
    loss_and_gradients(model, step_of([[1, 2, 3], [4, 5]], 10, loss))
    assert not model.item_encoder.weight.grad.to_dense()[0].any()


@pytest.mark.parametrize("user_encoder", ["mean", "gru"])
def test_later_items_do_not_change_earlier_user_vectors(user_encoder):
    model = make(user_encoder, "dot", "full_softmax", 1).eval()
    vectors = torch.randn(2, 6, DIM, generator=torch.Generator().manual_seed(3))
    before = model.user_encoder(vectors)
    vectors[:, 4:] = 100.0
    after = model.user_encoder(vectors)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_neumf_over_tiles_of_the_catalogue_equals_its_formula_pair_by_pair(layers, monkeypatch):
    monkeypatch.setattr(neumf, "TILE_BYTES", 256)
    generator = torch.Generator().manual_seed(layers)
    scorer = neumf.NeuMF(DIM, layers)
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


@every_composition
def test_every_parameter_is_drawn_by_reset_and_follows_from_the_seed(user_encoder, scorer, loss, layers):
    model = make(user_encoder, scorer, loss, layers, seed=1)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    for value in model.state_dict().values():
        value.fill_(torch.nan)
    model.reset_parameters(torch.Generator().manual_seed(1))
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())
    other = make(user_encoder, scorer, loss, layers, seed=2)
    assert not torch.equal(other.item_encoder.weight, model.item_encoder.weight)


def test_biases_start_from_the_logarithm_of_popularity():
    model = make("mean", "dot", "full_softmax", 1)
    counts = torch.tensor([1, 3, 7, 15, 31, 63, 127, 255, 511])
    model.item_bias.start_from_counts(counts)
    steps = model.item_bias.weight[1:, 0].diff()
    torch.testing.assert_close(steps, torch.full((8,), torch.log(torch.tensor(2.0)).item()))
