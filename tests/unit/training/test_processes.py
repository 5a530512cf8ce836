"""Any number of processes trains the same model from the same global batches."""

from __future__ import annotations

import pytest

from recsys_spark.training.checkpoint import load_checkpoint
from recsys_spark.training.worker import train
from tests.training_processes import curve, epoch_losses, finish, start


def trained(make_spec, tmp_path, processes, **changes):
    """Result, losses and parameters of a training by so many processes."""
    work = tmp_path / str(processes)
    spec = make_spec(dropout=0.0, batch_size=20, num_processes=processes, work=str(work), **changes)
    result = finish(start(spec)) if processes > 1 else train(spec)
    return result, epoch_losses(spec), load_checkpoint(max(work.glob("epoch-*"))).part("model")


def assert_same(one, other):
    (result, losses, model), (other_result, other_losses, other_model) = one, other
    assert other_losses == pytest.approx(losses, rel=1e-4)
    assert other_result["valid_ndcg_at_10"] == pytest.approx(result["valid_ndcg_at_10"], abs=1e-6)
    # A key's bias has no gradient but rounding, out of which Adam makes steps as long as any.
    for name, values in ((name, values) for name, values in model.items() if "query_key_value.bias" not in name):
        assert other_model[name].numpy() == pytest.approx(values.numpy(), abs=2e-3), name


def test_two_processes_train_what_one_does(make_spec, tmp_path):
    one, two = (trained(make_spec, tmp_path, processes, epochs=2, patience=9) for processes in (1, 2))
    assert_same(one, two)
    assert two[0]["bytes_per_step"] > 0
    assert "bytes_per_step" not in one[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "full_softmax", "user_encoder": "transformer"},
        {"user_encoder": "mean", "scorer": "neumf", "loss": "bce", "negatives": 4},
        {"user_encoder": "id", "num_users": 100, "loss": "bpr", "negatives": 4},
        {"loss": "in_batch"},
    ],
    ids=["gru", "sasrec", "mfn", "id", "in_batch"],
)
def test_one_two_and_four_processes_train_the_same(make_spec, tmp_path, changes):
    one, two, four = (trained(make_spec, tmp_path, processes, epochs=3, **changes) for processes in (1, 2, 4))
    assert_same(one, two)
    assert_same(one, four)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.5], ids=["post-local", "slowmo"])
def test_local_steps_learn_what_summed_ones_do_and_communicate_less(make_spec, tmp_path, momentum):
    changes = {"epochs": 12, "batch_size": 4, "num_processes": 2, "patience": 99, "dropout": 0.0}
    every_step = make_spec(work=str(tmp_path / "summed"), **changes)
    summed = finish(start(every_step))
    changes |= {"sync": "local", "local_steps": 8, "outer_momentum": momentum}
    local = make_spec(work=str(tmp_path / "local"), **changes)
    averaged = finish(start(local))
    assert summed["valid_ndcg_at_10"] > 0.97
    assert averaged["valid_ndcg_at_10"] > 0.97
    assert averaged["bytes_per_step"] < 0.7 * summed["bytes_per_step"]
    ends = [[point for point in curve(spec) if point["event"] == "epoch"] for spec in (every_step, local)]
    assert all(point["bytes_communicated"] > 0 for points in ends for point in points)
    # The results tell the loss of the best epoch, which comes at another time in each; these are those of the last.
    assert ends[1][-1]["loss"] < ends[0][-1]["loss"] + 0.2
