"""A job as schedulers start it: under the lock of its workspace, in attempts that are recorded, within a time limit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.pipeline.runner import Runner
from recsys_spark.promotion.ledger import STAGE as PROMOTE
from recsys_spark.scheduling.attempts import Attempt, Retrying, recorded, status_of
from recsys_spark.scheduling.catch_up import days_to_do
from recsys_spark.scheduling.job_runs import last_done, one_line
from recsys_spark.scheduling.lease import Lease, held
from recsys_spark.scheduling.limits import Ended, TimedOut, ended_within, limited, stoppable
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace

log = logging.getLogger("recsys_spark")


@dataclass(frozen=True)
class Report:
    """What a job tells at its end."""

    run_id: str
    outputs: Mapping[str, str]
    metrics: Mapping[str, float]
    extra: Mapping[str, Any]
    commits: Sequence[Commit] = ()
    """What it published or kept, in order."""


@dataclass(frozen=True)
class Scheduled:
    """A job with what it was asked for."""

    job: str
    config: Config
    day: date | None
    """The run's date, where one was given."""
    force: bool
    body: Callable[[Runner], Report]
    """What it does for one day."""
    last_line: Callable[[Ended], None]
    """Says what became of it where the process has to be ended by force."""
    catch_up: bool = False
    """Are missed days done first."""
    told: dict[str, Any] = field(default_factory=dict)
    """What the job's JSON line says besides, however it ends."""

    def run(self) -> Report:
        """Hold the lock, and run each day that is due. Raises UserError where another job holds the lock for too long.

        The first day that fails ends it, with that day's error.
        """
        schedule, workspace = self.config.schedule, Workspace(self.config.workspace)
        with stoppable(), ExitStack() as stack:
            with recorded(Attempt(workspace, self.job, self.day)):
                workspace.check()
                times = schedule.lease_seconds, schedule.wait_seconds
                lease = stack.enter_context(held(workspace.root, self.job, *times, self._progress))
                days = self._days(workspace)
            if not self.catch_up:
                return _Day(self, lease, self.day).run()
            return self._one_by_one(lease, days)

    def _days(self, workspace: Workspace) -> list[date | None]:
        if not self.catch_up or self.day is None:
            return [self.day]
        return [*days_to_do(last_done(workspace, self.job), self.day, self.config.daily)]

    def _one_by_one(self, lease: Lease, days: Sequence[date | None]) -> Report:
        self.told["days"] = done = []
        for number, day in enumerate(days, 1):
            self._progress(f"catching up: {day}, day {number} of {len(days)}")
            try:
                report = _Day(self, lease, day).run()
            except (Exception, Ended) as error:
                done.append({"date": str(day), "status": status_of(error)})
                stopped = f"catching up stopped at {day}, {number - 1} of {len(days)} days are done"
                if isinstance(error, UserError):
                    raise UserError(f"{stopped}: {error}") from None
                log.error("%s: %s", self.job, stopped)
                raise
            done.append({"date": str(day), "status": "done", "run_id": report.run_id})
        return report

    def _progress(self, message: str) -> None:
        log.info("%s: %s", self.job, message)


class _Day:
    """The attempts of one date, within one time limit."""

    def __init__(self, job: Scheduled, lease: Lease, day: date | None) -> None:
        self._job = job
        self._lease = lease
        self._day = day
        self._finished: dict[str, int] = {}
        self._runner: Runner | None = None
        self._attempt: Attempt | None = None

    def run(self) -> Report:
        job, schedule = self._job, self._job.config.schedule
        # A decision that died half-way is found and recorded by the next run; going back twice is no second try.
        retries = 0 if job.job == PROMOTE else schedule.retries
        tries = Retrying(Workspace(job.config.workspace), job.job, self._day, retries, schedule.retry_seconds)
        with limited(schedule.limit_minutes, self._cancel, self._last_words):
            return tries.run(self._once)

    def _once(self, attempt: Attempt) -> Report:
        try:
            return self._made(attempt)
        except Exception as error:
            end = ended_within(error)
            if end is None:
                raise
            raise end from None

    def _made(self, attempt: Attempt) -> Report:
        job = self._job
        self._attempt = attempt
        runner = Runner(
            job.config,
            f"recsys_spark {job.job}",
            self._day,
            force=job.force,
            lease=self._lease,
            finished=self._finished,
        )
        self._runner = runner
        try:
            report = job.body(runner)
            attempt.run_id = report.run_id
            _tell(attempt, runner.workspace, report.commits)
            row = attempt.end("done")
            if row is not None:
                _show(runner, row)
            return report
        finally:
            attempt.run_id = attempt.run_id or runner.run_id
            runner.stop()

    def _cancel(self) -> None:
        if self._runner is not None:
            self._runner.cancel()

    def _last_words(self, error: TimedOut) -> None:
        if self._attempt is not None:
            self._attempt.run_id = self._runner.run_id if self._runner else None
            self._attempt.end("timed_out", error)
        self._job.last_line(error)


def _show(runner: Runner, row: Commit) -> None:
    """Let the view of job_runs show the row. The job is done and recorded, so that it fails no more."""
    try:
        runner.replace_views(row)
    except Exception as error:
        told = f"{type(error).__name__}: {one_line(str(error))}"
        log.warning("the view of job_runs shows the rows before this run's (%s)", told)


def _tell(attempt: Attempt, workspace: Workspace, commits: Sequence[Commit]) -> None:
    """What the row of an attempt that is done says."""
    if not commits:
        return
    last = next((commit for commit in reversed(commits) if commit.stage != PROMOTE), commits[-1])
    read = [commit.facts["report"]["rows_in"] for commit in commits if commit.stage == "clean_events"]
    attempt.rows_in = int(read[0]) if read else _rows_of(workspace, last.inputs)
    attempt.rows_out = sum(last.tables.values())
    if attempt.date is None and last.as_of is not None:
        attempt.date = (datetime.fromisoformat(last.as_of) - timedelta(days=1)).date()


def _rows_of(workspace: Workspace, inputs: Mapping[str, int]) -> int | None:
    try:
        versions = [workspace.version(stage, version) for stage, version in inputs.items()]
    except UserError:
        return None
    return sum(rows for commit in versions for rows in commit.tables.values())
