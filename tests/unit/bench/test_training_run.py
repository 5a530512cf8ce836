from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.training import run as bench
from bench.training.engine import Told, tell
from bench.training.ours import configuration
from bench.training.ours_training import Prepared
from bench.training.run import ratios, speed, write
from recsys_spark.config.root import Config
from recsys_spark.models.composition import Composition
from recsys_spark.training.spec import TrainSpec

PLACE = {
    **{"processor": "chip", "cores": 4, "threads": 2, "device": "cpu", "data": "a.txt", "items": 100},
    **{"length": 50, "dim": 64, "layers": 2, "precision": "float32"},
}


def one(engine: str, rate: float, ndcg: float, **other: Any) -> dict[str, Any]:
    own = {"engine": engine, "positions_per_second": rate, "ndcg_at_10": ndcg}
    return {**PLACE, "loss": "full_softmax", "batch_size": 128, "overrides": [], **own, **other}


def test_ratios_compare_runs_of_the_same_place() -> None:
    ours, theirs = one("ours_gru", 600.0, 0.05), one("recbole_gru4rec", 100.0, 0.04)
    (line,) = ratios([ours, theirs, one("recbole_gru4rec", 50.0, 0.04, dim=128)])
    assert (line["dim"], line["speed_ratio"], line["ndcg_difference"]) == (64, 6.0, 0.01)


@pytest.mark.parametrize(
    "other", [{"processor": "chop"}, {"cores": 8}, {"threads": 1}, {"layers": 1}, {"precision": "bf16"}]
)
def test_runs_of_another_machine_or_setting_are_not_compared(other: dict[str, Any]) -> None:
    assert ratios([one("ours_gru", 600.0, 0.05, **other), one("recbole_gru4rec", 100.0, 0.04)]) == []


def test_the_losses_stand_beside_a_ratio() -> None:
    ours = one("ours_sasrec_sampled", 600.0, 0.05, loss="sampled_softmax")
    (line,) = ratios([ours, one("rectools_sasrec", 100.0, 0.04)])
    assert (line["loss"], line["their_loss"]) == ("sampled_softmax", "full_softmax")


def test_a_result_is_replaced_by_one_of_the_same_settings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "training.json")
    write([one("ours_gru", 1.0, 0.0), one("ours_gru", 2.0, 0.0, layers=1), one("ours_gru", 3.0, 0.0, processor="b")])
    write([one("ours_gru", 4.0, 0.0), one("ours_gru", 5.0, 0.0, overrides=["training.precision=bf16"])])
    runs = json.loads((tmp_path / "training.json").read_text())["runs"]
    assert [run["positions_per_second"] for run in runs] == [4.0, 2.0, 3.0, 5.0]


def test_only_the_full_softmax_has_a_floor() -> None:
    told: dict[str, Any] = {"epoch_seconds": [2.0], "positions": 10, "dim": 4, "loss": "full_softmax"}
    rates = {"float32": 2400.0, "bf16": 4800.0}
    assert speed(told, 100, rates)["over_floor"] == {"float32": 0.2, "bf16": 0.4}
    sampled = speed({**told, "loss": "sampled_softmax"}, 100, rates)
    assert sampled["positions_per_second"] == 5.0
    assert "over_floor" not in sampled


def arguments(out: Path, **other: Any) -> Namespace:
    sizes = {"dim": 64, "layers": 2, "length": 50, "batch_size": 128, "threads": 2, "seed": 1, "epochs": 3}
    told = {"model": "sasrec", "loss": "full_softmax", "device": "cpu", "precision": "float32"}
    return Namespace(**{**sizes, **told, "out": out, **other})


@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax"])
def test_our_configuration_takes_the_loss_that_is_asked_for_in_float32(tmp_path: Path, loss: str) -> None:
    config = Config.model_validate(configuration(arguments(tmp_path, loss=loss)))
    assert config.recommenders.sasrec.loss == loss
    assert (config.training.precision, config.training.gpu) == ("float32", "off")


def test_a_result_says_with_which_settings_it_came_about(tmp_path: Path) -> None:
    told = Told(10, [1.0], "full_softmax", {}, "bf16", ["training.precision=bf16"], {"dim": 32})
    tell(arguments(tmp_path), told, dim=32)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["precision"], result["overrides"]) == ("bf16", ["training.precision=bf16"])
    assert (result["dim"], result["recommender"]) == (32, {"dim": 32})


def test_what_was_prepared_is_read_back_elsewhere(tmp_path: Path) -> None:
    composition = Composition(
        **{"user_encoder": "gru", "item_encoders": ("id",), "scorer": "dot", "loss": "full_softmax", "dim": 8},
        **{"layers": 1, "dropout": 0.0, "num_items": 10, "max_length": 5},
    )
    settings = {"epochs": 3, "patience": 3, "batch_size": 128, "learning_rate": 0.1, "weight_decay": 0.0}
    settings |= {"warmup_steps": 1, "grad_clip": 1.0, "negatives": 4, "negatives_power": 0.5, "seed": 1}
    where = {"composition": composition, "dataset": "/there/select", "dataset_version": "1", "work": "/there/work"}
    spec = TrainSpec(**where, **settings, validate=True, target_types=(3,))
    Prepared(spec, {"loss": "full_softmax"}, ["seed=1"]).save(tmp_path)
    found = Prepared.load(tmp_path)
    assert found.spec == replace(spec, dataset=str(tmp_path / "dataset"))
    assert (found.recommender, found.overrides) == ({"loss": "full_softmax"}, ["seed=1"])
