from __future__ import annotations

import pytest
import torch

from recsys_spark.models.composed import ComposedModel
from recsys_spark.models.composition import Composition
from recsys_spark.models.packed import History
from recsys_spark.models.step import Step
from tests.unit.models.steps import composition, model, step

COMPOSITIONS = [
    ("id", "neumf", "bce"),
    ("mean", "neumf", "bpr"),
    ("gru", "dot", "sampled_softmax"),
    ("lstm", "cosine", "in_batch"),
    ("transformer", "dot", "full_softmax"),
    ("transformer", "dot", "gbce"),
]
every_composition = pytest.mark.parametrize("parts", COMPOSITIONS, ids="-".join)
FULL = {"layers": 2, "event_types": True, "time_gaps": True}


def full(parts: tuple[str, ...], seed: int = 0) -> ComposedModel:
    return model(*parts, seed=seed, **({"layers": 2} if parts[0] == "id" else FULL))


def loss_and_gradients(made: ComposedModel, taken: Step) -> list[torch.Tensor]:
    made.zero_grad()
    loss = made(taken)
    loss.backward()
    gradients = [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in made.parameters() if p.grad is not None]
    return [loss.detach(), *gradients]


@pytest.mark.parametrize("parts", COMPOSITIONS[1:], ids="-".join)
def test_the_loss_of_a_step_is_the_sum_over_its_histories_and_so_are_the_gradients(parts):
    made = full(parts)
    histories = [[1, 2, 3, 4], [5, 6], [7, 1, 2, 5, 6, 8]]
    together = loss_and_gradients(made, step(histories, parts[2]))
    alone = [loss_and_gradients(made, step([tokens], parts[2])) for tokens in histories]
    for value, *parted in zip(together, *alone, strict=True):
        torch.testing.assert_close(value, sum(parted), atol=1e-5, rtol=1e-4)


@every_composition
def test_a_step_without_positions_has_loss_zero_and_gradients_of_zeros_of_the_same_shapes(parts):
    made = full(parts)
    loss_and_gradients(made, step([[1, 2, 3], [4, 5]], parts[2]))
    shapes = {name: (p.grad._values() if p.grad.is_sparse else p.grad).shape for name, p in made.named_parameters()}
    some = step([[1, 2, 3], [4, 5]], parts[2])
    none = torch.zeros(0, dtype=torch.int64)
    nothing = History(type(some.history.rows)(none), none, none, some.history.users_U, none)
    loss, *gradients = loss_and_gradients(made, Step(some.tokens_R, none, nothing, none, some.negatives))
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)
    found = {name: (p.grad._values() if p.grad.is_sparse else p.grad).shape for name, p in made.named_parameters()}
    assert found == shapes


@every_composition
def test_tables_have_gradients_of_the_rows_of_the_step_alone_and_nothing_else_has(parts):
    made = full(parts)
    loss_and_gradients(made, step([[1, 2, 3], [4, 5]], parts[2]))
    tables = {id(table) for table in made.sparse_tables()}
    assert {id(p) for p in made.parameters() if p.grad.is_sparse} == tables
    assert len(tables) == (3 if parts[0] == "id" else 2)
    assert not made.item_encoder.weight.grad.to_dense()[0].any()


@every_composition
def test_every_parameter_is_drawn_by_reset_and_follows_from_the_seed(parts):
    made = full(parts, seed=1)
    first = {name: value.clone() for name, value in made.state_dict().items()}
    for value in made.state_dict().values():
        value.fill_(torch.nan if value.is_floating_point() else True)
    made.reset_parameters(torch.Generator().manual_seed(1))
    assert all(torch.equal(value, first[name]) for name, value in made.state_dict().items())
    other = full(parts, seed=2)
    assert not torch.equal(other.item_encoder.weight, made.item_encoder.weight)


@every_composition
def test_built_on_the_meta_device_and_materialised_it_is_the_same_model(parts):
    with torch.device("meta"):
        deferred = ComposedModel(full(parts).composition)
    assert all(value.is_meta for value in deferred.state_dict().values())
    deferred.to_empty(device="cpu")
    deferred.reset_parameters(torch.Generator().manual_seed(1))
    eager = full(parts, seed=1).state_dict()
    assert all(torch.equal(value, eager[name]) for name, value in deferred.state_dict().items())


def test_a_composition_comes_back_from_its_json_values():
    made = composition("transformer", heads=4, item_encoders=("id", "attributes"))
    values = {**made.as_dict(), "item_encoders": ["id", "attributes"], "of another version": 1}
    assert Composition.from_dict(values) == made


def test_biases_start_from_the_logarithm_of_popularity():
    made = model("mean")
    counts = torch.tensor([1, 3, 7, 15, 31, 63, 127, 255, 511])
    made.item_bias.start_from_counts(counts)
    steps = made.item_bias.weight[1:, 0].diff()
    torch.testing.assert_close(steps, torch.full((8,), torch.log(torch.tensor(2.0)).item()))
