"""The runner gives a stage inputs that belong together, or says which job to run."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.pipeline.runner import Runner
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult, always, never
from recsys_spark.tables.pointer import publish

SOURCE = {
    "format": "csv",
    "path": "nowhere/*.csv",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": "purchase",
}


def say(context: StageContext) -> StageResult:
    """A stage without Spark: it leaves one file and tells its date."""
    (context.new_directory("output") / "file").write_text(str(context.as_of))
    return StageResult(facts={"newest_event": "2024-03-05T10:00:00", "as_of": str(context.as_of)})


CLEAN = Stage("clean_events", (), (), say, dated=never)
CLEANED_OTHERWISE = Stage("clean_events", (), ("seed",), say, dated=never)
FEATURES = Stage("build_features", ("clean_events",), (), say, append_only=always)
DATASETS = Stage("build_datasets", ("clean_events", "build_features"), (), say)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runner")


def runner(workspace: Path, day: date | None = None) -> Runner:
    return Runner(Config.model_validate({"workspace": str(workspace), "source": SOURCE}), "test", day)


def test_the_date_is_the_end_of_the_newest_events_day(workspace: Path) -> None:
    at = runner(workspace)
    for stage in (CLEAN, FEATURES, DATASETS):
        outcome = at.run(stage)
    assert outcome.commit.facts["as_of"] == "2024-03-06 00:00:00"


def test_an_input_made_from_another_version_of_a_second_input_is_refused(workspace: Path) -> None:
    at = runner(workspace)
    for stage in (CLEAN, FEATURES):
        at.run(stage)
    newest = at.run(CLEANED_OTHERWISE).commit.version
    with pytest.raises(
        UserError, match=rf"made from version {newest - 1} of clean_events, the newest is {newest}; run jobs/build_fea"
    ):
        at.run(DATASETS)


def test_an_input_made_from_an_earlier_version_of_the_very_same_is_taken(workspace: Path) -> None:
    at = runner(workspace)
    for stage in (CLEAN, FEATURES):
        at.run(stage)
    newest = at.run(CLEAN).commit.version
    assert at.run(FEATURES, reuse=True).commit.inputs == {"clean_events": newest - 1}
    assert at.run(DATASETS).commit.inputs["clean_events"] == newest


def test_a_date_that_is_not_that_of_an_input_is_refused(workspace: Path) -> None:
    at = runner(workspace)
    for stage in (CLEAN, FEATURES):
        at.run(stage)
    with pytest.raises(UserError, match="--date 2020-01-01: build_features was made for 2024-03-05; run jobs/"):
        runner(workspace, date(2020, 1, 1)).run(DATASETS)


def test_a_stage_that_names_its_versions_has_their_date_whatever_the_runs(workspace: Path) -> None:
    at = runner(workspace)
    for stage in (CLEAN, FEATURES):
        at.run(stage)
    later, newest = runner(workspace, date(2024, 3, 9)), at.workspace.require("build_features").version
    named = replace(DATASETS, reads=lambda *_: {"build_features": newest})
    for stage in (named, replace(DATASETS, day="inputs")):
        assert later.run(stage).commit.as_of == "2024-03-06T00:00:00"
    with pytest.raises(UserError, match="--date 2024-03-09: build_features was made for 2024-03-05"):
        later.run(DATASETS)


def test_an_unchanged_stage_is_kept_where_asked_and_runs_otherwise(workspace: Path) -> None:
    at = runner(workspace)
    first = at.run(CLEAN)
    assert at.run(CLEAN, reuse=True).commit == first.commit
    assert at.run(CLEAN).commit.version == first.commit.version + 1


def test_two_writers_that_extend_the_same_ids_do_not_both_publish(workspace: Path) -> None:
    at = runner(workspace)
    at.run(CLEAN)

    def overtaken(context: StageContext) -> StageResult:
        result = say(context)
        other = context.workspace.new_run_directory("build_features", "other")
        directory = context.workspace.stage_directory("build_features")
        publish(
            directory,
            "build_features",
            other,
            key="k",
            run_id="r",
            tables={},
            inputs={},
            metrics={},
            facts={},
            as_of=None,
        )
        return result

    with pytest.raises(UserError, match="run it again"):
        at.run(Stage("build_features", ("clean_events",), (), overtaken, append_only=always))
    newest = at.workspace.latest("build_features")
    assert newest is not None
    assert newest.run_id == "r"
