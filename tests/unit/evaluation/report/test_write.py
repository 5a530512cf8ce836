"""The report of a stage's run: written from its tables and the model that was measured, found again by the command."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark.config import load_config
from recsys_spark.evaluation.report import write
from recsys_spark.evaluation.report.__main__ import main
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import FusionSettings, single
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.history_rules import HistoryRules
from recsys_spark.tables.pointer import Commit, publish
from recsys_spark.tables.workspace import Workspace
from tests.page import ELSEWHERE, Page
from tests.unit.evaluation.report.conftest import (
    DAY,
    HISTORIES,
    INDICES,
    NOW,
    PURCHASE,
    TITLES,
    write_histories,
    write_items,
    write_lists,
    write_table,
)

CONFIG = """
workspace: {root}
source: {{format: csv, path: x.csv, columns: {{user_id: u, item_id: i, event_time: t}}, event_type: purchase}}
models: [repurchase, popularity]
evaluation: {{k: [10], repeats: allow}}
"""


class Artifacts:
    """What is logged to the stage's run."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, str | None]] = []

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        assert path.exists()
        self.logged.append((path.name, folder))


def committed(workspace: Workspace, stage: str, run: Path, **told: Any) -> Commit:
    nothing: dict[str, Any] = {"inputs": {}, "metrics": {}, "facts": {}, "tables": {}, "as_of": None}
    return publish(
        workspace.stage_directory(stage), stage, run, key="k", run_id=f"run of {stage}", **{**nothing, **told}
    )


def write_model(directory: Path, folder: Path) -> None:
    """Repurchase alone: what was bought again is bought again about as often."""
    rows = [{"code": n, "item_index": INDICES[item], "item_id": item, "title": item} for n, item in enumerate(TITLES)]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "vocabulary.parquet")
    Counts("popularity", torch.tensor([1.0, 2.0, 3.0, 4.0]), 7.0).save(
        folder / "popularity", folder / "vocabulary.parquet"
    )
    rule = HistoryRules("repurchase", torch.full((4,), 0.5), 30.0, (PURCHASE,))
    rule.save(folder / "repurchase", folder / "vocabulary.parquet")
    bundles = {name: folder / name for name in ("repurchase", "popularity")}
    settings: FusionSettings = single("repurchase")
    FusedModel.save(
        directory,
        bundles,
        bundles["popularity"],
        {"allow": settings, "drop": settings},
        ("purchase",),
        {"purchase": 1.0},
    )


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    (tmp_path / "shop.yaml").write_text(CONFIG.format(root=tmp_path / "workspace"), encoding="utf-8")
    config = load_config([str(tmp_path / "shop.yaml")])
    workspace = Workspace(config.workspace)
    inputs = {}
    for stage, facts in (
        ("build_features", {}),
        ("build_datasets", {"cut_times": {"test": NOW}}),
        ("train_models", {"models": {"repurchase": 1, "popularity": 1}}),
    ):
        run = workspace.new_run_directory(stage, "run")
        if stage == "build_features":
            write_items(run / "items")
        if stage == "build_datasets":
            write_histories(run / "histories", HISTORIES)
        inputs[stage] = committed(workspace, stage, run, facts=facts)
    for name in config.models:
        part = f"train_models.{name}"
        committed(workspace, part, workspace.new_run_directory(part, "run"), facts={"run_id": name, "fits": {}})
    run = workspace.new_run_directory("evaluate_models", "run")
    write_model(run / "model-test", tmp_path / "bundles")
    (run / "settings.json").write_text(json.dumps({"allow": single("repurchase").to_json()}), encoding="utf-8")
    lists = {("fused", "allow", "anna"): ["ale"], ("popularity", "allow", "anna"): ["dates", "cheese"]}
    write_lists(run / "evaluation_recommendations", lists)
    names = ["model", "repeats", "metric", "k", "value", "low", "high", "users"]
    values = {"fused": 0.5, "repurchase": 0.5, "popularity": 0.25}
    rows = [
        dict(zip(names, (name, "allow", "ndcg", 10, value, None, None, 2), strict=True))
        for name, value in values.items()
    ]
    write_table(run / "evaluation_metrics", names, rows)
    write_table(run / "evaluation_segments", ["dimension", "segment", *names], [])
    compared = ["model", "against", "repeats", "metric", "k", "difference", "low", "high", "p_value", "users"]
    write_table(run / "evaluation_comparisons", compared, [])
    nothing: Any = None
    return StageContext(
        stage="evaluate_models",
        config=config,
        workspace=workspace,
        as_of=datetime.fromtimestamp(40 * DAY, UTC).replace(tzinfo=None),
        run_id="r-17",
        inputs=inputs,
        run_directory=run,
        session=nothing,
        progress=lambda message: None,
        tracker=SimpleNamespace(metric_history=lambda run_id, name: []),  # type: ignore[arg-type]
        tracked=Artifacts(),  # type: ignore[arg-type]
        run_part=nothing,
    )


def written(context: StageContext) -> str:
    run = context.run_directory
    name = write.write_report(context, run / "model-test", run / "settings.json", {"target_users": 3, "no_history": 1})
    return (run / name).read_text(encoding="utf-8")


def test_a_report_is_written_from_the_tables_and_the_measured_model(context: StageContext) -> None:
    html = written(context)
    page = Page(html)
    assert not ELSEWHERE.search(html)
    shown = ["r-17", "1970-02-09", "test window 1970-01-31 to 1970-02-09", "repurchase", "popularity", "anna", "bert"]
    shown += ["0.2500", "you buy this about every 10 days", "Ale [bought] [repeat]", "Rye <b>bread</b>"]
    assert [word for word in shown if word not in page.text] == []
    assert "0.5000, of the best recommender (repurchase) 0.5000. No intervals were measured" in page.text


def test_the_page_and_its_pictures_are_artifacts_of_the_run(context: StageContext) -> None:
    written(context)
    assert context.tracked.logged == [("plots", "plots"), ("report.html", None)]  # type: ignore[attr-defined]
    pictures = {path.name for path in (context.run_directory / "plots").iterdir()}
    assert pictures == {"ndcg.png", "scores_allow.png"}


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time, and are not looked at here."""
    monkeypatch.setattr(write, "draw", lambda content: {})


@pytest.mark.usefixtures("without_pictures")
def test_the_report_is_the_same_each_time(context: StageContext) -> None:
    first = written(context)
    shutil.rmtree(context.run_directory / "plots")
    assert written(context) == first


@pytest.mark.usefixtures("without_pictures")
def test_the_command_prints_where_the_newest_report_stands(
    context: StageContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(tmp_path / "shop.yaml")]
    assert main(config) == 2
    assert "jobs/evaluate_models.py" in capsys.readouterr().err
    written(context)
    committed(context.workspace, "evaluate_models", context.run_directory)
    path = context.run_directory / "report.html"
    assert main(config) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert main([*config, "--open-path"]) == 0
    assert capsys.readouterr().out.strip() == path.as_uri()
