"""Which champion a fit may start from: none that has seen anything of what comes after the fit's cut."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.pipeline import starts
from recsys_spark.pipeline.starts import starts_of
from recsys_spark.promotion.decisions import Champion, State
from recsys_spark.tables.pointer import publish
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import Registered


class Registry:
    """A workspace of weekly champions: version n was made on data until day 7 n of March 2024."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workspace = Workspace(str(root))
        self.models: dict[str, Registered] = {}
        self.told: list[str] = []
        monkeypatch.setattr(starts, "registered", lambda tracker, name, version: self.models.get(version))
        monkeypatch.setattr(starts, "aliased", lambda *_: self.models[max(self.models)] if self.models else None)

    def commit(self, stage: str, run_id: str, facts: dict[str, Any], as_of: str | None = None) -> int:
        run = self.workspace.new_run_directory(stage, run_id)
        told: dict[str, Any] = {"tables": {}, "inputs": {}, "metrics": {}, "facts": facts, "as_of": as_of}
        return publish(self.workspace.stage_directory(stage), stage, run, key="k", run_id=run_id, **told).version

    def champion(self, day: int, parameters: str | None = "abc", evaluated: str = "evaluated") -> None:
        as_of = datetime(2024, 3, day).isoformat()
        fit = {"parameters_sha256": parameters} if parameters else {}
        pins = {
            "stage.build_datasets": self.commit("build_datasets", "datasets", {}, as_of),
            "stage.evaluate_models": self.commit("evaluate_models", "evaluated", {}, as_of),
            "component.gru": f"gru/{self.commit('train_models.gru', 'gru', {'fits': {'publish': fit}}, as_of)}",
        }
        tags = {name: str(value) for name, value in pins.items()} | {"evaluation_run_id": evaluated}
        version = str(len(self.models) + 1)
        self.models[version] = Registered("recsys-fused", version, "", "", tags)
        state = State(tuple(Champion(known, known) for known in sorted(self.models, reverse=True)))
        self.commit("promote_model", "promote", {"state": state.to_json()})

    def starts(self, cut: datetime, frozen: dict[str, Any] | None = None, fit: str = "select") -> list[str]:
        context = SimpleNamespace(workspace=self.workspace, tracker=None)
        seconds = int(cut.replace(tzinfo=UTC).timestamp())
        told = {"frozen": frozen or {}, "progress": self.told.append}
        inputs = SimpleNamespace(name="gru", fit=fit, cut_time=seconds, **told)
        return [start.name for start in starts_of(cast(Any, context), cast(FitInputs, inputs))]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    return Registry(tmp_path, monkeypatch)


def test_a_champion_that_saw_a_second_after_the_cut_is_none_to_start_from(registry: Registry) -> None:
    for day in (7, 14, 21):
        registry.champion(day)
    assert registry.starts(datetime(2024, 3, 21)) == ["recsys-fused/3", "recsys-fused/2", "recsys-fused/1"]
    assert registry.starts(datetime(2024, 3, 20, 23, 59, 59)) == ["recsys-fused/2", "recsys-fused/1"]
    assert registry.starts(datetime(2024, 3, 7)) == ["recsys-fused/1"]
    assert registry.starts(datetime(2024, 3, 6)) == []
    assert registry.told == ["starts cold: no champion of data before 2024-03-06 left parameters of gru"]


def test_what_is_published_starts_warm_only_where_what_was_evaluated_did(registry: Registry) -> None:
    registry.champion(7)
    cut = datetime(2024, 3, 21)
    assert registry.starts(cut, {"best_epoch": 3}) == []
    assert registry.starts(cut, {"best_epoch": 3, "warm_from": "recsys-fused/1"}) == ["recsys-fused/1"]


def test_what_is_published_again_does_not_start_from_the_champion_of_its_own_date(registry: Registry) -> None:
    registry.champion(7)
    registry.champion(14)
    warm = {"warm_from": "recsys-fused/1"}
    assert registry.starts(datetime(2024, 3, 14), warm, "publish") == ["recsys-fused/1"]
    assert registry.starts(datetime(2024, 3, 14), warm, "test") == ["recsys-fused/2", "recsys-fused/1"]


def test_champions_without_parameters_or_of_another_workspace_are_passed_over(registry: Registry) -> None:
    registry.champion(7)
    registry.champion(8, parameters=None)
    registry.champion(9, evaluated="elsewhere")
    assert registry.starts(datetime(2024, 3, 21)) == ["recsys-fused/1"]


def test_where_nobody_ever_was_champion_training_starts_cold(registry: Registry) -> None:
    assert registry.starts(datetime(2024, 3, 21)) == []
