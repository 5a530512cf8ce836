"""The table job_runs: rows are only ever added, by whoever ran."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.scheduling.__main__ import main
from recsys_spark.scheduling.job_runs import JobRun, append, last_done, read_runs
from recsys_spark.scheduling.lease import held
from recsys_spark.tables.workspace import Workspace

AT = datetime(2024, 3, 2, 3, 0, tzinfo=UTC)


def run(day: int, status: str = "done", **more: object) -> JobRun:
    return JobRun("run_pipeline", date(2024, 3, day), 1, status, AT, 1.5, **more)  # type: ignore[arg-type]


def test_a_row_is_added_behind_those_there_were(spark: SparkSession, tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    append(workspace, run(1, rows_in=100, rows_out=7, run_id="abc"))
    append(workspace, run(2, "failed", error="RuntimeError: first line\n  second line"))
    rows = workspace.read_table(spark, "job_runs").orderBy("job_run_id").collect()
    assert [(row.job_run_id, row.date.day, row.status, row.rows_in, row.rows_out, row.run_id) for row in rows] == [
        ("000001", 1, "done", 100, 7, "abc"),
        ("000002", 2, "failed", None, None, None),
    ]
    assert rows[1].error == "RuntimeError: first line second line"
    assert rows[0].seconds == 1.5


def test_jobs_that_end_at_the_same_time_lose_no_row(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda day: append(workspace, run(day)), range(1, 13)))
    rows = read_runs(workspace)
    assert sorted(row["date"].day for row in rows) == list(range(1, 13))
    assert [row["job_run_id"] for row in rows] == [f"{number:06d}" for number in range(1, 13)]


def test_the_last_done_day_is_the_latest_of_that_job_that_was_done(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    assert last_done(workspace, "run_pipeline") is None
    for row in (run(4), run(2), run(5, "failed"), run(6, "timed_out")):
        append(workspace, row)
    append(workspace, JobRun("clean_events", date(2024, 3, 9), 1, "done", AT, 1.0))
    assert last_done(workspace, "run_pipeline") == date(2024, 3, 4)


def test_status_tells_who_holds_the_lock_and_the_last_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "shop.yaml"
    columns = "{user_id: u, item_id: i, event_time: t}"
    config.write_text(
        f"workspace: {tmp_path / 'w'}\n"
        f"source: {{format: csv, path: nowhere, columns: {columns}, event_type: purchase}}\n"
    )
    assert main(["status", "--config", str(config)]) == 2
    assert "there is none yet" in capsys.readouterr().err
    workspace = Workspace(str(tmp_path / "w"))
    append(workspace, run(1, "failed", error="RuntimeError: out of luck"))
    append(workspace, run(1, rows_in=1000, rows_out=7))
    with held(workspace.root, "tune_model", 30):
        assert main(["status", "--config", str(config), "--last", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("lock: held by tune_model (pid ")
    assert "1,000" in said
    assert "out of luck" not in said
    assert main(["status", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("lock: free; last held by tune_model")
    assert "RuntimeError: out of luck" in said
