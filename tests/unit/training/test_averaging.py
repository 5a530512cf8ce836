from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from recsys_spark.training.averaging import AVERAGES_AN_EPOCH, Averages
from recsys_spark.training.checkpoint import load_checkpoint
from recsys_spark.training.worker import train


class OneNumber(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def averaged_parameters(self):
        return dict(self.named_parameters())


@pytest.mark.parametrize("asked_before", [False, True], ids=["", "a checkpoint came before the first"])
def test_the_average_follows_the_parameters(asked_before):
    model = OneNumber()
    averages = Averages(model, epochs=1.0, steps_an_epoch=4 * AVERAGES_AN_EPOCH)
    if asked_before:
        averages.tensors()
    expected = 0.0
    for step in range(1, 200):
        model.weight.data.fill_(float(step))
        averages.take(step)
        if step % 4 == 0:
            taken = step // 4
            decay = min(math.exp(-1 / AVERAGES_AN_EPOCH), taken / (9 + taken)) if taken > 1 else 0.0
            expected = decay * expected + (1 - decay) * step
    with averages.in_place():
        torch.testing.assert_close(model.weight.detach(), torch.tensor(expected))
    assert model.weight.item() == 199.0


def test_without_epochs_nothing_is_averaged_and_nothing_is_kept():
    model = OneNumber()
    averages = Averages(model, epochs=0.0, steps_an_epoch=10)
    averages.take(10)
    model.weight.data.fill_(3.0)
    with averages.in_place():
        assert model.weight.item() == 3.0
    assert averages.tensors() == {}


def test_averaged_training_killed_in_an_epoch_goes_on_with_the_same_averages(make_spec, tmp_path, monkeypatch):
    changes = {"epochs": 3, "average_epochs": 1.0, "checkpoint_seconds": 0.0}
    undisturbed = train(make_spec(work=str(tmp_path / "a"), **changes))
    from recsys_spark.training import worker

    make, calls = worker.StepMaker.make, []

    def killed(self, *args):
        calls.append(args)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return make(self, *args)

    monkeypatch.setattr(worker.StepMaker, "make", killed)
    spec = make_spec(work=str(tmp_path / "b"), **changes)
    try:
        train(spec)
    except KeyboardInterrupt:
        resumed = train(spec)
    assert resumed["valid_ndcg_at_10"] == undisturbed["valid_ndcg_at_10"]
    left, right = (load_checkpoint(Path(result["checkpoint"])).tensors for result in (resumed, undisturbed))
    names = {name for name in left if name.startswith("averages.")}
    assert "averages.taken" in names
    assert len(names) > 2
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_table_by_id_starts_at_given_vectors_where_there_are_any():
    from recsys_spark.models.composition import Composition
    from recsys_spark.models.item_encoders.id import IdItems

    items = IdItems(Composition(user_encoder="mean", dim=3, num_items=3, max_length=5))
    items.reset_parameters(torch.Generator().manual_seed(0))
    drawn = items.weight.detach().clone()
    given = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])
    items.start_from(given)
    torch.testing.assert_close(items.weight[1, :2].detach(), torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(items.weight[3, :2].detach(), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(items.weight[1, 2].detach(), drawn[1, 2] * 0.1)
    torch.testing.assert_close(items.weight[[0, 2]].detach(), drawn[[0, 2]])
