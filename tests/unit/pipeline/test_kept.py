"""Nights that keep the model, and what a decision on a challenger reads after them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.pipeline import promote
from recsys_spark.pipeline.kept import kept_stages
from recsys_spark.pipeline.promote import promotion_stage
from recsys_spark.pipeline.runner import Runner
from recsys_spark.pipeline.stages import STAGES
from recsys_spark.pipeline.train import fit_inputs
from recsys_spark.promotion.decisions import Request
from recsys_spark.tables.pointer import publish
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import CONTENT, Registered

SOURCE = {
    "format": "csv",
    "path": "unused",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": "purchase",
}
MADE_FROM = ("build_features", "build_datasets", "fit_features", "train_models", "evaluate_models")


def config(root: Path, **changes: Any) -> Config:
    return Config.model_validate({"source": SOURCE, "workspace": str(root), **changes})


def commit(workspace: Workspace, stage: str, **facts: Any) -> int:
    run = workspace.new_run_directory(stage, "run")
    told: dict[str, Any] = {"tables": {}, "inputs": {}, "metrics": {}, "facts": facts, "as_of": None}
    return publish(workspace.stage_directory(stage), stage, run, key="k", run_id="run", **told).version


def test_lists_of_kept_nights_are_made_from_what_monitoring_knows_items_by() -> None:
    stages = kept_stages()
    assert list(stages) == ["fit_features", "fuse_recommendations"]
    assert set(stages["fuse_recommendations"].upstream) == {"build_features", "build_datasets", "fit_features"}


def test_features_of_a_kept_night_are_none_to_train_with(tmp_path: Path) -> None:
    """They are those of the publish fit alone, so the next training is not told that they are its own."""
    kept, trained = kept_stages()["fit_features"], STAGES["fit_features"]
    assert kept.run is not trained.run
    assert kept.follows is not None
    assert trained.follows is None
    workspace = Workspace(str(tmp_path))
    commit(workspace, "fit_features", versions={"publish": "v"})
    (tmp_path / "datasets" / "select").mkdir(parents=True)
    context = SimpleNamespace(
        inputs={"fit_features": workspace.require("fit_features")}, directory=lambda name: tmp_path / name
    )
    with pytest.raises(UserError, match=r"fit_features version 1 has no select fit.*; run jobs/fit_features\.py"):
        fit_inputs(cast(Any, context), "kim_cnn", "select", {})


@pytest.mark.parametrize(("kept", "rolled_back"), [(True, False), (True, True), (False, False)])
def test_after_kept_nights_a_challenger_is_judged_on_what_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, rolled_back: bool
) -> None:
    runner = Runner(config(tmp_path), "test", None)
    runner.__dict__["tracker"] = None
    pins = {f"stage.{stage}": str(commit(runner.workspace, stage)) for stage in MADE_FROM}
    for stage in ("build_features", "build_datasets"):
        commit(runner.workspace, stage)
    commit(runner.workspace, "fuse_recommendations", **({"kept": True} if kept else {}))
    if rolled_back:  # to lists of a night that trained
        commit(runner.workspace, "fuse_recommendations", restored_from=1)
    challenger = Registered("recsys-fused", "2", "", "", pins)
    monkeypatch.setattr(promote, "aliased", lambda *_: challenger)
    stage = promotion_stage(Request())
    inputs = runner._inputs(stage, runner._named(stage))
    assert {name: found.version for name, found in inputs.items()} == {
        **dict.fromkeys(MADE_FROM, 1),
        **({} if kept else {"build_features": 2, "build_datasets": 2}),
    }


def test_a_version_that_is_gone_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(config(tmp_path), "test", None)
    runner.__dict__["tracker"] = cast(Any, None)
    commit(runner.workspace, "fuse_recommendations", kept=True)
    challenger = Registered("recsys-fused", "2", "", "", {"stage.build_features": "7"})
    monkeypatch.setattr(promote, "aliased", lambda *_: challenger)
    stage = promotion_stage(Request())
    with pytest.raises(UserError, match="version 7 of build_features is gone; run the job again"):
        runner._inputs(stage, runner._named(stage))


@pytest.mark.parametrize(
    ("champion", "decided", "expected"),
    [(None, [], True), ("another", [], True), ("new", [], False), ("another", ["2"], False), ("another", ["1"], True)],
)
def test_a_challenger_that_nobody_judged_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, champion: str | None, decided: list[str], expected: bool
) -> None:
    models = {"challenger": Registered("recsys-fused", "2", "", "", {CONTENT: "new"})}
    if champion:
        models["champion"] = Registered("recsys-fused", "1", "", "", {CONTENT: champion})
    monkeypatch.setattr(promote, "aliased", lambda tracker, name, alias: models.get(alias))
    monkeypatch.setattr(promote, "read_decisions", lambda commit: [{"challenger": version} for version in decided])
    assert promote.undecided(Workspace(str(tmp_path)), cast(Any, None)) is expected
