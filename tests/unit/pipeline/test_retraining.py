"""Whether a run trains: each trigger at and below its limit, and what the last training was."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from recsys_spark.config import Config
from recsys_spark.config.retraining import Retraining
from recsys_spark.monitoring.finding import Finding, Measure, Status
from recsys_spark.pipeline import retraining
from recsys_spark.pipeline.retraining import SETTINGS, Standing, decide, judged, learned_settings, unknown_share
from recsys_spark.tables.pointer import publish
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import Registered

SOURCE = {
    "format": "csv",
    "path": "unused",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": "purchase",
}
DAY = date(2024, 3, 1)


def config(**changes: Any) -> Config:
    return Config.model_validate({"source": SOURCE, **changes})


def found(key: str, value: float, status: Status = "ok", days: int = 0, rows: int | None = None) -> Finding:
    group, _, name = key.partition(".")
    day = DAY + timedelta(days=days)
    measure = Measure(day=day, group=cast(Any, group), name=name, value=value, rows=rows)
    return Finding(measure, status, "a sentence")


def test_without_a_trigger_there_is_nothing_to_decide() -> None:
    assert not Retraining().on
    assert not Retraining(warm_start=True, min_age_days=3).on
    assert Retraining(drift=("scores.psi",)).on


@pytest.mark.parametrize(("age", "trains"), [(6.9, False), (7.0, True)])
def test_age_fires_at_its_limit(age: float, trains: bool) -> None:
    decision = judged(Retraining(max_age_days=7), Standing(age, 0.5))
    assert decision.train is trains
    assert decision.metrics == {"retraining.age": age, "retraining.train": float(trains)}
    assert decision.fired == (["age"] if trains else [])


@pytest.mark.parametrize(("share", "trains"), [(0.049, False), (0.05, True)])
def test_new_items_fire_at_their_share(share: float, trains: bool) -> None:
    decision = judged(Retraining(new_items_share=0.05), Standing(2.0, share))
    assert decision.train is trains
    assert ("new since the last training" in decision.why) is trains


def test_drift_is_an_alert_of_a_named_kind_on_the_newest_day() -> None:
    settings = Retraining(drift=("scores.psi",))
    alert = found("scores.psi", 9.0, "alert")
    assert judged(settings, Standing(2.0, 0.0, [alert])).why == "on 2024-03-01 1 measures were at alert: scores.psi"
    for others in (
        [found("scores.psi", 9.0, "warn")],
        [found("scores.ks", 9.0, "alert")],
        [alert, found("scores.ks", 0.1, days=1)],  # it was yesterday's
        [],
    ):
        decision = judged(settings, Standing(2.0, 0.0, others))
        assert not decision.train
        assert [trigger["limit"] for trigger in decision.to_json()["triggers"]] == [1.0]


def test_lost_accuracy_is_the_median_of_at_least_three_days() -> None:
    settings = Retraining(lost_accuracy=0.25)
    days = [found("outcomes.ndcg_ratio", value, days=day, rows=500) for day, value in enumerate((0.9, 0.75, 0.1))]
    assert judged(settings, Standing(3.0, 0.0, days)).train  # a quarter is lost
    too_few = judged(settings, Standing(3.0, 0.0, days[:2]))
    assert not too_few.train
    assert [(trigger["value"], trigger["limit"]) for trigger in too_few.to_json()["triggers"]] == [(None, 0.25)]
    better = found("outcomes.ndcg_ratio", 0.95, days=4, rows=500)
    assert not judged(settings, Standing(3.0, 0.0, [*days, better])).train
    few = [found("outcomes.ndcg_ratio", 0.1, days=day, rows=3) for day in range(5)]
    assert not judged(settings, Standing(3.0, 0.0, few)).train


def test_what_stays_bad_waits_for_the_least_age() -> None:
    decision = judged(Retraining(new_items_share=0.01, min_age_days=3), Standing(1.0, 0.5))
    assert not decision.train
    assert decision.fired == ["new_items"]
    assert "waits until the last training is 3 days old" in decision.why


def test_settings_of_lists_are_not_learned_and_those_of_models_are() -> None:
    own = learned_settings(config())
    for changes in ({"fusion": {"k": 7}}, {"rules": {"blocked_items": ["a"]}}, {"retraining": {"max_age_days": 3}}):
        assert learned_settings(config(**changes)) == own
    assert learned_settings(config(source={**SOURCE, "path": "landing/of/another/day.csv"})) == own
    for changes in (
        {"models": ["popularity"]},
        {"recommenders": {"gru": {"dim": 8}}},
        {"fusion": {"method": "average"}},
        {"retraining": {"warm_start": True}},
        {"split": {"valid_days": 3}},
        {"cleaning": {"blocked_items": ["bag"]}},
        {"source": {**SOURCE, "event_type": "view"}},
    ):
        assert learned_settings(config(**changes)) != own


def test_a_kind_that_is_not_measured_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"scores\.nonsense: no such kind of measure; known are scores\."):
        config(retraining={"drift": ["scores.nonsense"]})
    with pytest.raises(ValidationError, match=r"max_age_days must be at least min_age_days \(3\)"):
        config(retraining={"max_age_days": 2, "min_age_days": 3})
    with pytest.raises(ValidationError, match=r"retraining\.warm_start needs split\.strategy temporal"):
        config(retraining={"warm_start": True}, split={"strategy": "leave_one_out"})


def vocabulary(path: Path, items: list[int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"item_index": pa.array(items, pa.int32())}), path)
    return path


def test_the_share_of_new_items_is_of_the_items_with_events(tmp_path: Path) -> None:
    newest, trained = vocabulary(tmp_path / "newest", [1, 2, 5, 9]), vocabulary(tmp_path / "trained", [1, 2, 3, 4, 5])
    assert unknown_share(newest, trained) == 0.25


class Night:
    """A workspace with the datasets of two days, and a challenger of the first."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = config(workspace=str(root), retraining={"max_age_days": 7})
        self.workspace = Workspace(str(root))
        self.monkeypatch = monkeypatch

    def datasets(self, as_of: str, items: int = 4) -> int:
        run = self.workspace.new_run_directory("build_datasets", as_of)
        vocabulary(run / "datasets" / "publish" / "vocabulary.parquet", list(range(1, items + 1)))
        told: dict[str, Any] = {"tables": {}, "inputs": {}, "metrics": {}, "facts": {}, "as_of": as_of}
        directory = self.workspace.stage_directory("build_datasets")
        return publish(directory, "build_datasets", run, key=as_of, run_id=as_of, **told).version

    def trained(self, version: int | None, settings: Config | None = None, evaluated: str = "here") -> None:
        run = self.workspace.new_run_directory("evaluate_models", "here")
        told: dict[str, Any] = {"tables": {}, "inputs": {}, "metrics": {}, "facts": {}, "as_of": None}
        directory = self.workspace.stage_directory("evaluate_models")
        own = publish(directory, "evaluate_models", run, key="e", run_id="here", **told).version
        tags = {"stage.build_datasets": str(version), SETTINGS: learned_settings(settings or self.config)}
        tags |= {"stage.evaluate_models": str(own), "evaluation_run_id": evaluated}
        model = Registered("recsys-fused", "3", "", "", tags)
        self.monkeypatch.setattr(retraining, "aliased", lambda *_: None if version is None else model)

    def decide(self) -> retraining.Decision:
        return decide(self.config, self.workspace, cast(Any, None))


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    return Night(tmp_path, monkeypatch)


def test_the_first_run_trains(night: Night) -> None:
    night.datasets("2024-03-01T00:00:00")
    night.trained(None)
    assert night.decide().fired == ["first"]
    night.trained(77)  # gone
    assert night.decide().fired == ["first"]
    night.trained(1, evaluated="elsewhere")  # of another workspace that has a version of this number, too
    assert night.decide().fired == ["first"]


def test_a_run_on_the_very_data_of_the_last_training_goes_on_with_it(night: Night) -> None:
    night.trained(night.datasets("2024-03-01T00:00:00"))
    decision = night.decide()
    assert decision.train
    assert not decision.fired


def test_a_night_without_a_trigger_keeps_the_model_and_says_how_far_each_is(night: Night) -> None:
    night.trained(night.datasets("2024-03-01T00:00:00"))
    night.datasets("2024-03-02T00:00:00")
    assert night.decide().to_json() == {
        "train": False,
        "why": "no trigger fired",
        "triggers": [
            {
                "name": "age",
                "fired": False,
                "value": 1.0,
                "limit": 7.0,
                "why": "the last training is 1 days of data old, the limit is 7",
            }
        ],
    }
    night.datasets("2024-03-08T00:00:00")
    assert night.decide().fired == ["age"]


def test_changed_settings_train_and_so_does_an_earlier_date(night: Night) -> None:
    first = night.datasets("2024-03-01T00:00:00")
    last = night.datasets("2024-03-02T00:00:00")
    night.trained(first, config(models=["popularity"]))
    assert night.decide().fired == ["settings"]
    night.datasets("2024-03-01T00:00:00")
    night.trained(last)
    assert night.decide().fired == ["earlier"]
