"""The search for settings from its command line, and what train_models makes of what it found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys_spark.config import load_config
from tests.e2e.conftest import ROOT, Finished, Shop, finish, run_job
from tests.shop import write_shop

pytestmark = pytest.mark.slow

EASE = "tuning.space.ease={l2: {low: 1, high: 50, log: true}}"
GRU = "tuning.space.gru={dim: {choices: [4, 8]}, learning_rate: {low: 0.001, high: 0.1, log: true}}"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A search starts from datasets alone, so nothing costly is fitted before."""
    folder = tmp_path_factory.mktemp("tuned")
    config = write_shop(folder)
    result = run_job("run_pipeline", config, "--set", "models=[popularity]", "--set", "fusion.method=average")
    assert result.code == 0, result.stderr[-4000:]
    return Shop(folder, config, result)


def tune(config: Path, name: str, *settings: str) -> Finished:
    return run_job("tune_model", config, "--model", name, *(word for each in settings for word in ("--set", each)))


def test_the_best_settings_are_a_configuration_file(shop: Shop) -> None:
    ended = tune(shop.config, "ease", EASE, "tuning.trials=2", "tuning.sampler=random")
    assert ended.code == 0, ended.stderr[-3000:]
    assert ended.line["metrics"]["trials.complete"] == 2
    trials = json.loads(Path(ended.line["outputs"]["trials.json"]).read_text())
    best = max(trials, key=lambda trial: trial["valid_ndcg_at_10"])
    merged = load_config([str(shop.config), ended.line["outputs"]["best.yaml"]])
    assert merged.recommenders.ease.l2 == best["settings"]["l2"]
    assert "trial 1 of 2 (l2 " in ended.stderr
    assert "min left" in ended.stderr


def test_killed_and_run_again_it_goes_on_and_train_models_takes_what_it_found(shop: Shop, tmp_path: Path) -> None:
    settings = ("--set", GRU, "--set", "tuning.trials=6", "--set", "tuning.startup_trials=2")
    command = [sys.executable, str(ROOT / "jobs" / "tune_model.py"), "--config", str(shop.config), "--model", "gru"]
    said = tmp_path / "stderr"
    with said.open("w") as file:
        driver = subprocess.Popen([*command, *settings], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=file)
        until = time.monotonic() + 300
        while "trial 2 of 6 (" not in said.read_text() and driver.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    resumed = finish([*command, *settings], ROOT)
    assert resumed.code == 0, resumed.stderr[-3000:]
    assert "goes on: " in resumed.stderr
    trials = json.loads(Path(resumed.line["outputs"]["trials.json"]).read_text())
    assert [trial["trial"] for trial in trials] == [1, 2, 3, 4, 5, 6]

    whole = finish([*command, *settings, "--force"], ROOT)
    again = json.loads(Path(whole.line["outputs"]["trials.json"]).read_text())
    assert [{**trial, "run_id": None} for trial in again] == [{**trial, "run_id": None} for trial in trials]

    best = resumed.line["outputs"]["best.yaml"]
    trained = run_job("train_models", shop.config, "--config", best, "--set", "models=[gru]")
    assert trained.code == 0, trained.stderr[-3000:]
    assert trained.line["metrics"]["gru.select.valid_ndcg_at_10"] == resumed.line["metrics"]["valid_ndcg_at_10"]
