"""A job under a scheduler: one at a time, tried again after faults, every day in its turn, and all of it recorded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.pipeline.runner import Runner
from recsys_spark.pipeline.scheduled import Report, Scheduled
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult, never
from recsys_spark.scheduling.job_runs import read_runs
from recsys_spark.scheduling.lease import BusyError, LeaseLostError, Lock, held
from recsys_spark.scheduling.limits import TimedOut
from recsys_spark.tables.workspace import Workspace

DAY = date(2024, 3, 1)


def scheduled(root: Path, body: Callable[[Runner], Report], day: date | None = DAY, **more: Any) -> Scheduled:
    schedule = {"retry_seconds": 0, **more.pop("schedule", {})}
    source = {
        "format": "csv",
        "path": "nowhere/*/*.csv",
        "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
        "event_type": "purchase",
        "arrival": {"path_pattern": r"/(\d{4}-\d{2}-\d{2})/"} if more.pop("daily", True) else None,
    }
    config = Config.model_validate({"workspace": str(root), "source": source, "schedule": schedule})
    job = more.pop("job", "run_pipeline")
    return Scheduled(job, config, day, more.pop("force", False), body, lambda error: None, **more)


def nothing(runner: Runner) -> Report:
    return Report("run", {}, {}, {})


def rows(root: Path, *columns: str) -> list[Any]:
    found = [tuple(row[name] for name in columns) for row in read_runs(Workspace(str(root)))]
    return [row[0] for row in found] if len(columns) == 1 else found


def failing(*errors: BaseException) -> Callable[[Runner], Report]:
    """A body that ends with these errors, one a time, and then succeeds."""
    left = list(errors)

    def body(runner: Runner) -> Report:
        if left:
            raise left.pop(0)
        return nothing(runner)

    return body


def test_a_fault_is_tried_again_and_every_attempt_has_its_row(tmp_path: Path) -> None:
    body = failing(RuntimeError("no disk"), ValueError("still none"))
    scheduled(tmp_path, body, schedule={"retries": 2}).run()
    assert rows(tmp_path, "attempt", "status", "error", "date") == [
        (1, "failed", "RuntimeError: no disk", DAY),
        (2, "failed", "ValueError: still none", DAY),
        (3, "done", None, DAY),
    ]


def test_a_view_that_cannot_be_made_leaves_a_done_job_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(runner: Runner, commit: object) -> None:
        raise UserError("the metastore refused a view")

    monkeypatch.setattr(Runner, "replace_views", refused)
    assert scheduled(tmp_path, nothing, schedule={"retries": 2}).run().run_id == "run"
    assert rows(tmp_path, "attempt", "status", "error") == [(1, "done", None)]


def test_after_the_last_attempt_the_fault_is_the_jobs(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="second"):
        scheduled(tmp_path, failing(RuntimeError("first"), RuntimeError("second")), schedule={"retries": 1}).run()
    assert rows(tmp_path, "status") == ["failed", "failed"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(UserError("bad column"), "refused"), (LeaseLostError("taken"), "lost"), (TimedOut("too long"), "timed_out")],
)
def test_what_is_no_fault_is_not_tried_again(tmp_path: Path, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)):
        scheduled(tmp_path, failing(error), schedule={"retries": 5}).run()
    assert rows(tmp_path, "status", "error") == [(status, str(error))]


def test_a_decision_on_champions_is_never_tried_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        scheduled(tmp_path, failing(RuntimeError("half-way")), job="promote_model", schedule={"retries": 5}).run()
    assert rows(tmp_path, "job", "status") == [("promote_model", "failed")]


def test_a_job_that_meets_another_one_leaves_and_is_recorded_as_busy(tmp_path: Path) -> None:
    with held(tmp_path, "tune_model", 30), pytest.raises(BusyError, match="held by tune_model"):
        scheduled(tmp_path, nothing).run()
    assert rows(tmp_path, "status") == ["busy"]
    scheduled(tmp_path, nothing).run()
    assert rows(tmp_path, "status", "run_id") == [("busy", None), ("done", "run")]


def test_the_lock_is_held_meanwhile_and_given_back_also_after_a_fault(tmp_path: Path) -> None:
    def body(runner: Runner) -> Report:
        found = Lock(tmp_path).look()
        assert found is not None
        assert not found.free
        raise RuntimeError("seen")

    with pytest.raises(RuntimeError, match="seen"):
        scheduled(tmp_path, body).run()
    found = Lock(tmp_path).look()
    assert found is not None
    assert found.free


def dated(fails: date | None = None) -> tuple[Callable[[Runner], Report], list[date]]:
    """A body that fails on one day, and the days that it was run for."""
    ran: list[date] = []

    def body(runner: Runner) -> Report:
        assert runner._day is not None
        ran.append(runner._day)
        if runner._day == fails:
            raise UserError("nothing has landed")
        return nothing(runner)

    return body, ran


def test_missed_days_are_done_in_order_until_one_fails_and_the_next_run_goes_on_there(tmp_path: Path) -> None:
    scheduled(tmp_path, nothing).run()
    days = [DAY + timedelta(days=number) for number in range(1, 5)]
    body, ran = dated(fails=days[2])
    job = scheduled(tmp_path, body, days[3], catch_up=True)
    with pytest.raises(UserError, match="stopped at 2024-03-04, 2 of 4 days are done: nothing has landed"):
        job.run()
    assert ran == days[:3]
    assert [entry["status"] for entry in job.told["days"]] == ["done", "done", "refused"]
    body, ran = dated()
    scheduled(tmp_path, body, days[3], catch_up=True).run()
    assert ran == days[2:]
    assert rows(tmp_path, "date", "status")[1:] == [
        (days[0], "done"), (days[1], "done"), (days[2], "refused"), (days[2], "done"), (days[3], "done"),
    ]  # fmt: skip


def test_where_nothing_tells_the_day_of_arrival_one_run_takes_in_what_was_missed(tmp_path: Path) -> None:
    scheduled(tmp_path, nothing, daily=False).run()
    body, ran = dated()
    scheduled(tmp_path, body, DAY + timedelta(days=9), daily=False, catch_up=True).run()
    assert ran == [DAY + timedelta(days=9)]


def test_an_attempt_does_not_make_again_what_the_one_before_published_even_when_forced(tmp_path: Path) -> None:
    made: list[str] = []

    def make(context: StageContext) -> StageResult:
        made.append(context.stage)
        return StageResult(facts={"report": {"rows_in": 12}})

    def break_down(context: StageContext) -> StageResult:
        made.append(context.stage)
        if made.count(context.stage) == 1:
            raise RuntimeError("the power went")
        return StageResult()

    first = Stage("clean_events", (), (), make, dated=never)
    second = Stage("build_features", ("clean_events",), (), break_down)

    def body(runner: Runner) -> Report:
        commits = [runner.run(stage).commit for stage in (first, second)]
        return Report(commits[-1].run_id, {}, {}, {}, commits)

    scheduled(tmp_path, body, schedule={"retries": 1}, force=True).run()
    assert made == ["clean_events", "build_features", "build_features"]
    history = Workspace(str(tmp_path)).history("clean_events")
    assert [commit.version for commit in history] == [1]
    assert rows(tmp_path, "attempt", "status", "rows_in") == [(1, "failed", None), (2, "done", 12)]
