from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import cold_fits
from bench.cold_fits import fit, fit_key
from recsys_spark.config.root import Config
from recsys_spark.fitting.inputs import FitInputs

SOURCE = {"format": "csv", "path": "a.csv", "event_type": "purchase"}
SOURCE = {**SOURCE, "columns": {"user_id": "u", "item_id": "i", "event_time": "t"}}


def config(**other: Any) -> Config:
    return Config.model_validate({"source": SOURCE, **other})


@pytest.mark.parametrize(
    "other",
    [
        {"recommenders": {"kim_cnn": {"epochs": 9}}},
        {"training": {"precision": "bf16"}},
        {"fusion": {"repeats": "drop"}},
        {"seed": 3},
    ],
)
def test_a_key_changes_with_what_a_fit_is_made_from(other: dict[str, Any]) -> None:
    key = fit_key(config(), "kim_cnn", "data", "features")
    assert key == fit_key(config(recommenders={"gru": {"epochs": 9}}), "kim_cnn", "data", "features")
    assert key != fit_key(config(**other), "kim_cnn", "data", "features")


def test_a_key_changes_with_dataset_features_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {fit_key(config(), "bert", *inputs) for inputs in (("a", "f"), ("b", "f"), ("a", "g"))}
    monkeypatch.setattr(cold_fits, "code_version", lambda: "other")
    assert len({*keys, fit_key(config(), "bert", "a", "f")}) == 4


def test_a_bundle_is_used_again_with_its_seconds_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[list[str]] = []

    def fit_one(inputs: FitInputs) -> dict[str, Any]:
        fitted.append([path.name for path in inputs.output.glob("*")])
        inputs.output.mkdir()
        (inputs.output / "weights").touch()
        return {"best_epoch": len(fitted)}

    monkeypatch.setattr(cold_fits, "FITS", {"kim_cnn": fit_one})
    (tmp_path / "datasets" / "select").mkdir(parents=True)
    (tmp_path / "datasets" / "select" / "dataset.json").write_text(json.dumps({"version": "1"}))
    datasets = SimpleNamespace(path=lambda name: tmp_path / name, facts={"cut_times": {"select": 1}})
    commits: Any = {"build_datasets": datasets, "fit_features": SimpleNamespace(key="f", directory=str(tmp_path))}
    workspace = SimpleNamespace(read_table=lambda *_: None, root=tmp_path)

    def run(**other: Any) -> dict[str, Any]:
        runner: Any = SimpleNamespace(spark=None, workspace=workspace, config=config(**other))
        return fit(runner, commits, "kim_cnn", tmp_path / "cold_items" / "kim_cnn")

    first = run()
    assert first["best_epoch"] == 1
    assert run() == first
    assert run(seed=3)["best_epoch"] == 2
    assert fitted == [[], []]  # the old bundle was gone
