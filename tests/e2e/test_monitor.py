"""Days are monitored through the job: what it says, records and leaves, and what doing a day again changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from recsys_spark.monitoring.kinds import KINDS
from recsys_spark.scheduling.job_runs import read_runs
from recsys_spark.tables.workspace import Workspace
from tests.e2e.conftest import Finished, read, run_job
from tests.e2e.seeded import LAST_DAY, lines_of, run_jobs, write_shop

pytestmark = pytest.mark.slow
BEFORE = LAST_DAY - timedelta(days=1)
CERTAIN = "monitoring.limits={events.top_item: {warn: 0, alert: null}}"
"""A warning on any day: some item is the busiest one, and the day has rows enough for it to be judged."""


@dataclass(frozen=True)
class Watched:
    """A shop after some days were monitored."""

    workspace: Workspace
    lines: list[dict[str, Any]]
    """Of the first day, of the day after it, and of that day once more."""
    last: Finished
    """The job in a process of its own, which says no day."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    config = write_shop(folder)
    tables = [(job, []) for job in ("clean_events", "build_features", "build_datasets")]
    plan = [*tables, *(("monitor", ["--date", str(day)]) for day in (BEFORE, LAST_DAY, LAST_DAY))]
    ended = run_jobs(config, plan)
    lines = lines_of(ended)
    assert len(lines) == len(plan), ended.stderr[-4000:]
    last = run_job("monitor", config, "--fail-on", "warn", "--set", CERTAIN)
    return Watched(Workspace(str(folder / "workspace")), lines[len(tables) :], last)


def rows(line: dict[str, Any], day: date) -> list[dict[str, Any]]:
    return [row for row in read(line["outputs"]["monitoring"]).to_pylist() if row["day"] == day]


def test_a_day_is_measured_and_told_in_one_line(watched: Watched) -> None:
    line = watched.lines[0]
    assert (line["status"], line["day"], line["alerts"]) == ("done", str(BEFORE), [])
    found = rows(line, BEFORE)
    assert line["counts"] == {"ok": len(found), "warn": 0, "alert": 0}
    kinds = {"events.volume_ratio", "events.price_level", "events.category_left", "features.psi", "features.js"}
    assert kinds <= {row["kind"] for row in found}
    assert {row["kind"] for row in found} <= set(KINDS)
    assert all(row["sentence"] for row in found)


def test_a_day_that_is_done_again_has_new_rows_and_other_days_keep_theirs(watched: Watched) -> None:
    first, second, again = watched.lines
    assert rows(again, BEFORE) == rows(first, BEFORE)
    assert {row["run_id"] for row in rows(second, LAST_DAY)} == {second["run_id"]}
    assert {row["run_id"] for row in rows(again, LAST_DAY)} == {again["run_id"]}
    plain = [[{**row, "run_id": ""} for row in rows(line, LAST_DAY)] for line in (second, again)]
    assert plain[0] == plain[1]


def test_the_day_is_that_of_the_newest_event_and_findings_may_fail_the_job(watched: Watched) -> None:
    line = watched.last.line
    assert line["day"] == str(LAST_DAY), watched.last.stderr[-4000:]
    assert (watched.last.code, line["counts"]["alert"]) == (3, 0)
    assert line["counts"]["warn"] > 0


def test_each_run_is_in_mlflow_and_in_job_runs(watched: Watched) -> None:
    client = MlflowClient(f"sqlite:///{watched.workspace.root / 'mlflow.db'}")
    run = client.get_run(watched.lines[0]["run_id"])
    (volume,) = [row for row in rows(watched.lines[0], BEFORE) if row["kind"] == "events.volume_ratio"]
    assert run.data.metrics["monitor.events.volume_ratio"] == volume["value"]
    assert "monitoring.html" in [file.path for file in client.list_artifacts(run.info.run_id)]
    runs = [(row["date"], row["status"]) for row in read_runs(watched.workspace) if row["job"] == "monitor"]
    assert runs == [(BEFORE, "done"), (LAST_DAY, "done"), (LAST_DAY, "done"), (LAST_DAY, "done")]


def test_the_page_stands_where_the_line_says(watched: Watched) -> None:
    page = Path(watched.lines[0]["outputs"]["monitoring.html"]).read_text(encoding="utf-8")
    assert str(BEFORE) in page
