"""Runs: where they are kept, how they end, and that no value makes logging fail."""

import pytest

from recsys_spark.errors import UserError
from recsys_spark.tracking.runs import Tracker


def test_runs_and_artifacts_live_below_the_workspace_by_default(tracker, workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tracker.start("pipeline") as run:
        run.log_json({"rows": 3}, "quality.json")
    assert workspace.is_absolute()
    assert (workspace / "mlflow.db").is_file()
    assert len(list((workspace / "mlartifacts").rglob("quality.json"))) == 1
    assert list(tmp_path.iterdir()) == []


def test_children_point_to_their_parent(tracker):
    with tracker.start("pipeline", tags={"kind": "parent"}) as parent, tracker.start("gru", parent) as child:
        pass
    found = tracker.client.get_run(child.run_id)
    assert found.data.tags["mlflow.parentRunId"] == parent.run_id
    assert found.info.run_name == "gru"
    assert "mlflow.parentRunId" not in tracker.client.get_run(parent.run_id).data.tags


def test_a_run_fails_when_an_exception_passes_and_finishes_otherwise(tracker):
    with tracker.start("good") as good:
        pass
    with pytest.raises(ValueError, match="boom"), tracker.start("bad") as bad:
        raise ValueError("boom")
    assert tracker.client.get_run(good.run_id).info.status == "FINISHED"
    assert tracker.client.get_run(bad.run_id).info.status == "FAILED"


def test_more_can_be_logged_to_an_ended_run_and_its_status_stays(tracker):
    with pytest.raises(ValueError, match="boom"), tracker.start("bad") as bad:
        raise ValueError("boom")
    with tracker.resume(bad.run_id) as again:
        again.log_metrics({"test.ndcg_at_10": 0.5})
    found = tracker.client.get_run(bad.run_id)
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"test.ndcg_at_10": 0.5}


def test_a_curve_is_read_back_as_it_was_told(tracker):
    with tracker.start("gru") as run:
        for step, value in ((10, 2.0), (20, 1.0)):
            run.log_metrics({"select.loss": value}, step)
    assert sorted(tracker.metric_history(run.run_id, "select.loss")) == [(10, 2.0), (20, 1.0)]
    assert tracker.metric_history(run.run_id, "select.valid_ndcg_at_10") == []
    assert tracker.metric_history("0" * 32, "select.loss") == []


def test_an_unknown_run_cannot_be_resumed(tracker):
    with pytest.raises(UserError, match="not found"):
        tracker.resume("0" * 32)


def test_parameters_of_any_length_number_and_name_are_logged(tracker):
    params = {"long": "x" * 100_000, "nested": {"a": {"b": [1, 2]}}, "odd name, (really)!": None, "empty": {}}
    many = {f"key_{number}": number for number in range(250)}
    with tracker.start("run", params=params) as run:
        run.log_params(many)
        run.set_tags({"long": "y" * 100_000})
    found = tracker.client.get_run(run.run_id).data
    assert len(found.params) == 4 + 250
    assert found.params["long"].startswith("xxx")
    assert found.params["long"].endswith("...")
    assert found.params["nested.a.b"] == "[1, 2]"
    assert found.params["odd name_ _really__"] == "null"


def test_a_curve_keeps_its_steps(tracker):
    with tracker.start("run") as run:
        for step, value in enumerate((3.0, 2.0, float("nan"))):
            run.log_metrics({"loss": value}, step=step)
    history = tracker.client.get_metric_history(run.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history][:2] == [(0, 3.0), (1, 2.0)]
    assert len(history) == 3


def test_directories_and_files_become_artifacts(tracker, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/metrics.png").write_bytes(b"png")
    with tracker.start("run") as run:
        run.log_artifact(tmp_path / "plots", "evaluation")
        run.log_artifact(tmp_path / "plots/metrics.png")
    names = {entry.path for entry in tracker.client.list_artifacts(run.run_id)}
    inside = {entry.path for entry in tracker.client.list_artifacts(run.run_id, "evaluation")}
    assert names == {"metrics.png", "evaluation"}
    assert inside == {"evaluation/metrics.png"}


@pytest.mark.parametrize("uri", ["./mlruns", "file:///nowhere", "nonsense://host/runs"])
def test_an_address_that_mlflow_does_not_take_is_one_clear_line(config, tmp_path, uri):
    tracking = config.tracking.model_copy(update={"uri": uri})
    with pytest.raises(UserError, match=r"tracking\.uri") as raised:
        Tracker(config.model_copy(update={"tracking": tracking}), tmp_path)
    assert "\n" not in str(raised.value)


def test_the_experiment_is_found_again(config, tracker, workspace):
    assert Tracker(config, workspace).experiment_id == tracker.experiment_id


def test_the_ui_command_names_the_database(tracker, workspace):
    assert tracker.ui_command.endswith(f"mlflow ui --backend-store-uri sqlite:///{workspace}/mlflow.db")
