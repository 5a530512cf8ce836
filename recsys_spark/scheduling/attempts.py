"""Attempts of a job: each leaves a row in job_runs, and a fault is tried again where that is configured."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypeVar

from recsys_spark.errors import UserError
from recsys_spark.scheduling.job_runs import JobRun, now, one_line, record
from recsys_spark.scheduling.lease import BusyError, LeaseLostError
from recsys_spark.scheduling.limits import Ended, Status
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace

log = logging.getLogger("recsys_spark")
Result = TypeVar("Result")


@dataclass
class Attempt:
    """One attempt, as it comes to know what its row will say."""

    workspace: Workspace
    job: str
    date: date | None
    number: int = 1
    started: datetime = field(default_factory=now)
    run_id: str | None = None
    rows_in: int | None = None
    rows_out: int | None = None
    _clock: float = field(default_factory=time.monotonic)

    def end(self, status: Status, error: BaseException | None = None) -> Commit | None:
        """Write the row, unless that is impossible: it never raises."""
        # A folder that is not there yet is not made for a job that was refused.
        return record(self.workspace, self.row(status, error)) if self.workspace.root.is_dir() else None

    def row(self, status: Status, error: BaseException | None = None) -> JobRun:
        """What the row says."""
        return JobRun(
            job=self.job,
            date=self.date,
            attempt=self.number,
            status=status,
            started=self.started,
            seconds=round(time.monotonic() - self._clock, 2),
            rows_in=self.rows_in,
            rows_out=self.rows_out,
            error=None if error is None else _told(error),
            run_id=self.run_id,
            host=socket.gethostname(),
            pid=os.getpid(),
        )


@contextmanager
def recorded(attempt: Attempt) -> Iterator[None]:
    """Write the row of what ends with an error, whatever it is, and let that pass."""
    try:
        yield
    except BaseException as error:
        attempt.end(status_of(error), error)
        raise


def status_of(error: BaseException) -> Status:
    """What an error makes of a run."""
    if isinstance(error, BusyError):
        return "busy"
    if isinstance(error, UserError):
        return "refused"
    if isinstance(error, LeaseLostError):
        return "lost"
    if isinstance(error, Ended):
        return error.status
    return "stopped" if isinstance(error, KeyboardInterrupt) else "failed"


@dataclass(frozen=True)
class Retrying:
    """How often a job is tried."""

    workspace: Workspace
    job: str
    date: date | None
    retries: int
    """After the first attempt."""
    pause_seconds: float

    def run(self, once: Callable[[Attempt], Result]) -> Result:
        """Try until it succeeds: only faults are tried again. `once` fills in what the attempt's row will say."""
        number = 1
        while True:
            attempt = Attempt(self.workspace, self.job, self.date, number)
            try:
                with recorded(attempt):
                    return once(attempt)
            except (UserError, LeaseLostError):
                raise
            except Exception as error:
                if number > self.retries:
                    raise
                log.exception(
                    "attempt %d of %d failed (%s); the next one goes on where this one stood, in %g s",
                    *(number, self.retries + 1, one_line(_told(error)), self.pause_seconds),
                )
            time.sleep(self.pause_seconds)
            number += 1


def _told(error: BaseException) -> str:
    """The error of a fault names its type; its stack is in the log."""
    if isinstance(error, (UserError, LeaseLostError, Ended)):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
