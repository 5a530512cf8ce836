"""From a run's id to what it was made from."""

from __future__ import annotations

import pytest

from recsys_spark.errors import UserError
from recsys_spark.pipeline.provenance import FILE, provenance
from recsys_spark.tables.pointer import publish
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.lineage import lineage, tree


def commit(workspace, stage, run_id, inputs, tables):
    run = workspace.new_run_directory(stage, run_id)
    told = {"key": f"key of {stage}", "metrics": {}, "facts": {}, "as_of": "2024-03-01T00:00:00"}
    directory = workspace.stage_directory(stage)
    return publish(directory, stage, run, run_id=run_id, tables=tables, inputs=inputs, **told)


@pytest.fixture(scope="module")
def made(tracker, config, tmp_path_factory):
    """Clean events, features of them, and datasets of both, made by runs of which one is MLflow's."""
    workspace = Workspace(str(tmp_path_factory.mktemp("lineage")))
    commit(workspace, "clean_events", "run-1", {}, {"clean_events": 7})
    commit(workspace, "build_features", "run-2", {"clean_events": 1, "gone": 4}, {"items": 3})
    with tracker.start("build_datasets") as run:
        run.log_json(provenance(config), FILE)
    datasets = commit(
        workspace, "build_datasets", run.run_id, {"clean_events": 1, "build_features": 1}, {"histories": 2}
    )
    return workspace, datasets


def test_every_version_upstream_is_told_with_paths_and_rows(tracker, made):
    workspace, datasets = made
    found = lineage(workspace, tracker, datasets.run_id)
    assert (found["stage"], found["version"]) == ("build_datasets", 1)
    assert found["tables"] == {"histories": {"rows": 2, "path": str(datasets.path("histories"))}}
    assert set(found["inputs"]) == {"clean_events/1", "build_features/1", "gone/4"}
    assert found["inputs"]["clean_events/1"]["tables"]["clean_events"]["rows"] == 7
    assert found["inputs"]["gone/4"]["removed"] is True


def test_code_libraries_and_configuration_are_those_that_the_run_kept(tracker, made, config):
    workspace, datasets = made
    found = lineage(workspace, tracker, datasets.run_id)
    kept = {key: value for key, value in found["made_with"].items() if key != "git_revision"}
    assert kept == provenance(config)
    assert lineage(workspace, tracker, "run-1")["made_with"] == {}


def test_the_tree_shows_of_the_configuration_what_is_not_the_default(tracker, made, config):
    workspace, datasets = made
    defaults = config.model_dump(mode="json")
    lines = tree(lineage(workspace, tracker, datasets.run_id), {**defaults, "seed": 21}).splitlines()
    assert lines[0] == f"run {datasets.run_id}"
    assert f"├─ build_datasets version 1, run {datasets.run_id}, events before 2024-03-01T00:00:00" in lines
    assert "│  └─ gone version 4 (removed)" in lines
    assert lines[-1] == "   └─ seed: 20"


def test_an_unknown_run_is_one_clear_line(tracker, made):
    with pytest.raises(UserError, match=r"run nobody: no kept version in .* was made by it"):
        lineage(made[0], tracker, "nobody")
