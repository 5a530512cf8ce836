"""Studies of a small shop, run to their end in this process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from recsys_spark.config import load_config
from recsys_spark.datasets.split import TEST, VALID
from recsys_spark.errors import UserError
from recsys_spark.evaluation.metrics import mean_metrics
from recsys_spark.evaluation.relevance import exploded_events, relevant_items
from recsys_spark.tuning import trained
from recsys_spark.tuning.search import tuning_stage
from recsys_spark.tuning.study import TuningStudy
from tests.unit.tuning.conftest import TuningShop

pytestmark = pytest.mark.slow  # a minute together; the e2e test of the job runs always
EASE = "space.ease={l2: {choices: [1, 100]}, half_life_days: {choices: [30]}}"
GRU = "space.gru={dim: {choices: [4, 8]}, learning_rate: {low: 0.001, high: 0.1, log: true}}"


def test_a_grid_of_a_recommender_that_spark_fits(shop: TuningShop) -> None:
    studied = shop.tune("ease", EASE, "sampler=grid")
    assert [trial["settings"] for trial in studied.trials] == [
        {"l2": 1, "half_life_days": 30},
        {"l2": 100, "half_life_days": 30},
    ]
    values = [trial["valid_ndcg_at_10"] for trial in studied.trials]
    assert studied.commit.metrics["valid_ndcg_at_10"] == max(values)
    assert studied.commit.facts["best"] == studied.trials[int(np.argmax(values))]["settings"]

    best = studied.commit.path("best.yaml")
    merged = load_config([str(shop.config), str(best)])
    assert merged.recommenders.ease.l2 == studied.commit.facts["best"]["l2"]
    assert merged.recommenders.ease.max_items == 40  # the shop's own: all settings are in the file
    assert merged.recommenders.gru == load_config([str(shop.config)]).recommenders.gru
    run = studied.tracker.client.list_artifacts(studied.commit.run_id)
    assert {file.path for file in run} == {"best.yaml", "trials.json", "provenance.json"}


def test_trials_of_a_neural_recommender_are_spark_tasks_and_runs_below_the_job_s(shop: TuningShop) -> None:
    studied = shop.tune("gru", GRU, "trials=4", "startup_trials=2")
    assert [trial["trial"] for trial in studied.trials] == [1, 2, 3, 4]
    client = studied.tracker.client
    below = f"tags.`mlflow.parentRunId` = '{studied.commit.run_id}'"
    runs = {run.data.tags["mlflow.runName"]: run for run in client.search_runs([studied.tracker.experiment_id], below)}
    assert sorted(runs) == [f"gru trial {number}" for number in (1, 2, 3, 4)]
    for trial in studied.trials:
        run = runs[f"gru trial {trial['trial']}"]
        assert run.info.status == "FINISHED"
        assert run.data.tags["state"] == trial["state"]
        assert run.data.params["dim"] == str(trial["settings"]["dim"])
        curve = {
            str(point.step): point.value for point in client.get_metric_history(run.info.run_id, "valid_ndcg_at_10")
        }
        assert trial["curve"].items() <= curve.items()
    best = max((trial for trial in studied.trials if trial["state"] == "complete"), key=lambda t: t["valid_ndcg_at_10"])
    assert studied.commit.facts["best"] == best["settings"]
    workspace = shop.runner().workspace
    left = [*workspace.scratch.glob("*"), *(workspace.root / "tuning").glob("gru/*/trials/*")]
    assert left == [], "checkpoints are gone with their trials, so that --force begins anew"


def test_killed_and_resumed_a_study_ends_as_if_undisturbed(shop: TuningShop, monkeypatch: pytest.MonkeyPatch) -> None:
    search = (GRU, "trials=4", "startup_trials=2", "pruner=halving")
    whole = shop.tune("gru", *search, force=True)
    tell, told = TuningStudy.tell, []

    def killed(self, proposal, verdict):  # type: ignore[no-untyped-def]
        told.append(proposal)
        if len(told) == 2:  # the first batch was trained, and one of its two trials was written down
            raise KeyboardInterrupt
        tell(self, proposal, verdict)

    monkeypatch.setattr(TuningStudy, "tell", killed)
    with pytest.raises(KeyboardInterrupt):
        shop.tune("gru", *search, force=True)
    monkeypatch.undo()
    resumed = shop.tune("gru", *search)
    assert resumed.trials == whole.trials
    assert shop.tune("gru", *search).trials == whole.trials  # nothing is left to do


def test_nothing_of_the_test_window_reaches_a_study(shop: TuningShop, tmp_path: Path) -> None:
    """Every test event becomes one of the same item; the dataset of the fit that is published is gone."""
    poisoned = shop.copy(tmp_path / "workspace")
    datasets = poisoned.runner().workspace.require("build_datasets")
    for file in datasets.path("histories").glob("*.parquet"):
        table = pq.read_table(file, partitioning=None)
        rows = table.to_pylist()
        for row in rows:
            row["items"] = [1 if fold == TEST else item for item, fold in zip(row["items"], row["folds"], strict=True)]
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    shutil.rmtree(datasets.path("datasets") / "publish")
    for name, search in (("ease", (EASE, "sampler=grid")), ("gru", (GRU, "trials=2"))):
        assert poisoned.tune(name, *search).trials == shop.tune(name, *search, force=True).trials


def test_a_trial_s_value_is_what_the_evaluation_measures_on_the_valid_window(shop: TuningShop) -> None:
    """Popularity ranks one list for all, so its lists can be written down here."""
    studied = shop.tune("popularity", "space.popularity={half_life_days: {choices: [1.0e+15]}}")
    histories = shop.runner().workspace.read_table(shop.spark, "histories")
    items = shop.runner().workspace.read_table(shop.spark, "items")
    events = exploded_events(histories)
    counts = events.where(F.col("fold") < VALID).groupBy("item_index").count()
    ranked = counts.join(items, on="item_index").orderBy(F.desc("count"), "item_index").limit(10).collect()
    top = shop.spark.createDataFrame(
        [(row["item_id"], rank) for rank, row in enumerate(ranked, 1)], "item_id string, rank int"
    )
    lists = histories.select("user_id").crossJoin(top).withColumn("model", F.lit("popularity"))
    relevant = relevant_items(events, items, VALID, ["purchase"], "exclude", "allow")
    metrics = mean_metrics(lists, relevant, ["popularity"], 48, [10]).where("metric = 'ndcg'").first()
    assert metrics is not None
    assert studied.trials[0]["valid_ndcg_at_10"] == pytest.approx(metrics["value"], abs=1e-6)


def test_items_of_which_a_recommender_says_nothing_are_in_no_list_of_a_trial(shop: TuningShop) -> None:
    """Repurchase speaks of what was bought before alone, and `drop` keeps just that out of the lists."""
    search = "tuning.space.repurchase={half_lives_days: {choices: [[30.0]]}}"
    values = {}
    for repeats in ("allow", "drop"):
        runner = shop.runner(search, f"fusion.repeats={repeats}")
        values[repeats] = runner.run(tuning_stage(runner.config, "repurchase")).commit.metrics["valid_ndcg_at_10"]
    assert values["allow"] > 0
    assert values["drop"] == 0


def test_a_setting_that_cannot_be_fitted_fails_its_trial_alone(
    shop: TuningShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys_spark.tuning import fitted

    fit = fitted.FITS["ease"]

    def refusing(inputs):  # type: ignore[no-untyped-def]
        if inputs.config.recommenders.ease.l2 == 1:
            raise UserError("recommenders.ease.l2: 1 is too small for this data; raise it")
        return fit(inputs)

    monkeypatch.setitem(fitted.FITS, "ease", refusing)
    studied = shop.tune("ease", EASE, "sampler=grid", force=True)
    assert [trial["state"] for trial in studied.trials] == ["failed", "complete"]
    assert "too small for this data" in studied.trials[0]["error"]
    assert studied.commit.facts["best"]["l2"] == 100


def test_tasks_that_die_are_started_again(shop: TuningShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    died, real = tmp_path / "died", trained.train_in_task

    def dying(spec):  # type: ignore[no-untyped-def]
        if not died.exists():
            died.touch()
            os._exit(1)
        return real(spec)

    monkeypatch.setattr(trained, "train_in_task", dying)
    studied = shop.tune("gru", GRU, "trials=2", force=True)
    assert died.exists()
    assert [trial["state"] for trial in studied.trials] == ["complete", "complete"]


def test_without_datasets_it_says_which_job_to_run(shop: TuningShop, tmp_path: Path) -> None:
    empty = TuningShop(shop.spark, shop.config, tmp_path)
    runner = empty.runner(f"tuning.{EASE}")
    with pytest.raises(UserError, match=r"nothing published by build_datasets; run jobs/build_datasets.py first"):
        runner.run(tuning_stage(runner.config, "ease"))
