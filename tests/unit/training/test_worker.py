from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import torch

from recsys_spark.training.checkpoint import load_checkpoint
from recsys_spark.training.keeper import Keeper
from recsys_spark.training.schedule import learning_rate
from recsys_spark.training.steps import StepMaker
from recsys_spark.training.worker import train

MFN = {"user_encoder": "mean", "scorer": "neumf", "loss": "bce", "negatives": 4}


def tensors(result):
    return load_checkpoint(Path(result["checkpoint"])).tensors


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("loss", ["sampled_softmax", "full_softmax", "bce"])
def test_a_gru_learns_that_the_next_item_of_the_block_follows(make_spec, loss):
    result = train(make_spec(epochs=12, loss=loss, negatives=12))
    assert result["valid_ndcg_at_10"] > 0.97  # the one target first: 1.0


def test_a_mean_of_the_history_learns_which_block_a_user_is_in(make_spec):
    result = train(make_spec(epochs=12, **MFN))
    worst_inside_the_block = 1 / math.log2(1 + 6)
    assert result["valid_ndcg_at_10"] > worst_inside_the_block


def test_the_same_seed_gives_the_same_model_and_another_seed_another(make_spec, tmp_path):
    first = train(make_spec(epochs=2, work=str(tmp_path / "a")))
    again = train(make_spec(epochs=2, work=str(tmp_path / "b")))
    other = train(make_spec(epochs=2, work=str(tmp_path / "c"), seed=6))
    assert same(tensors(first), tensors(again))
    assert first["valid_ndcg_at_10"] == again["valid_ndcg_at_10"]
    assert not same(tensors(first), tensors(other))


@pytest.mark.parametrize("changes", [{}, MFN], ids=["gru", "mfn"])
def test_killed_in_an_epoch_and_resumed_it_ends_as_if_undisturbed(make_spec, tmp_path, monkeypatch, changes):
    undisturbed = train(make_spec(epochs=3, work=str(tmp_path / "a"), **changes))
    spec = make_spec(epochs=3, work=str(tmp_path / "b"), **changes)
    from recsys_spark.training import worker

    make, calls = worker.StepMaker.make, []

    def killed(self, *args):
        calls.append(args)
        if len(calls) == 25:  # in the third epoch of ten steps
            raise KeyboardInterrupt
        return make(self, *args)

    monkeypatch.setattr(worker.StepMaker, "make", killed)
    with pytest.raises(KeyboardInterrupt):
        train(spec)
    resumed = train(spec)
    assert len(calls) == 25 + 10  # only the third epoch was trained again
    assert resumed["best_epoch"] == undisturbed["best_epoch"]
    assert resumed["valid_ndcg_at_10"] == undisturbed["valid_ndcg_at_10"]
    assert same(tensors(resumed), tensors(undisturbed))


def test_resumed_within_an_epoch_only_the_steps_after_the_checkpoint_are_made(make_spec, tmp_path, monkeypatch):
    """A checkpoint after each step; the 25th step, the fifth of the third epoch, is not made."""
    monkeypatch.setattr(Keeper, "due", lambda _: True)
    undisturbed = train(make_spec(epochs=3, work=str(tmp_path / "a")))
    make, calls = StepMaker.make, []

    def killed(self, *args):
        calls.append(args)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return make(self, *args)

    monkeypatch.setattr(StepMaker, "make", killed)
    spec = make_spec(epochs=3, work=str(tmp_path / "b"))
    with pytest.raises(KeyboardInterrupt):
        train(spec)
    assert sorted(path.name for path in Path(spec.work).glob("epoch-*"))[-1] == "epoch-0002+00000004"
    resumed = train(spec)
    assert len(calls) == 25 + 6
    assert (resumed["loss"], resumed["valid_ndcg_at_10"]) == (undisturbed["loss"], undisturbed["valid_ndcg_at_10"])
    assert same(tensors(resumed), tensors(undisturbed))
    assert undisturbed["checkpoint_share"] > 0


def test_checkpoints_within_an_epoch_cost_no_more_than_their_share(tmp_path, monkeypatch):
    """Writing one takes two seconds here, so the next one is due after forty."""
    now = iter([0.0, 5.0, 11.0, 11.0, 13.0, 24.0, 52.9, 53.1])
    monkeypatch.setattr("recsys_spark.training.keeper.time.perf_counter", lambda: next(now))
    keeper = Keeper(tmp_path, every_seconds=10.0)
    assert not keeper.due()
    assert keeper.due()
    keeper.save({"epoch": 0, "step": 1}, {}, best_epoch=0)
    assert [keeper.due() for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_the_learning_rate_rises_and_falls_to_nothing_at_the_end_of_the_schedule(make_spec, schedule):
    spec = make_spec(epochs=2, schedule=schedule, schedule_epochs=4, learning_rate=0.4, warmup_steps=4)
    rates = [learning_rate(spec, step, steps_an_epoch=6) for step in range(24)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    expected = {"constant": 0.4, "cosine": 0.2, "linear": 0.2}[schedule]
    assert rates[14] == pytest.approx(expected)
    assert rates[23] < (0.5 if schedule == "constant" else 0.03)


def test_a_finished_training_is_not_trained_again(make_spec):
    first = train(make_spec(epochs=2))
    again = train(make_spec(epochs=2))
    assert again["positions_per_second"] is None
    assert again["checkpoint"] == first["checkpoint"]


def test_it_stops_when_patience_is_out_and_keeps_the_best_epoch(make_spec, monkeypatch):
    from recsys_spark.training import worker

    measured = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(worker, "mean_ndcg", lambda *_: next(measured))
    result = train(make_spec(epochs=9, patience=2))
    assert result["best_epoch"] == 2
    assert result["valid_ndcg_at_10"] == 0.3
    assert load_checkpoint(Path(result["checkpoint"])).state["epoch"] == 2
    assert next(measured) == 0.9  # four epochs were trained


def test_without_validation_exactly_the_given_epochs_are_trained(make_spec):
    result = train(make_spec(epochs=3, validate=False, patience=1))
    assert result["best_epoch"] == 3
    assert result["valid_ndcg_at_10"] is None


def test_the_curve_tells_loss_speed_and_valid_ndcg_of_each_epoch(make_spec):
    spec = make_spec(epochs=2)
    train(spec)
    points = [json.loads(line) for line in (Path(spec.work) / "curve.jsonl").read_text().splitlines()]
    epochs = [point for point in points if point["event"] == "epoch"]
    assert [point["total_steps"] for point in epochs] == [10, 20]
    assert epochs[1]["loss"] < epochs[0]["loss"]
    assert {"positions_per_second", "data_wait_share", "valid_ndcg_at_10"} <= epochs[0].keys()


def test_a_spec_is_plain_data_and_its_fingerprint_tells_other_settings_apart(make_spec):
    spec = make_spec()
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301 - as Spark carries it
    assert make_spec(work="elsewhere", num_processes=2).fingerprint == spec.fingerprint
    assert make_spec(learning_rate=0.5).fingerprint != spec.fingerprint
    assert make_spec(dim=8).fingerprint != spec.fingerprint
