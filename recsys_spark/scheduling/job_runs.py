"""The table `job_runs`: every attempt of every job, one row each, never changed."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from recsys_spark.redaction import covered
from recsys_spark.scheduling.limits import Status
from recsys_spark.tables.ledger import publish_rows, read_rows
from recsys_spark.tables.pointer import Commit, OvertakenError
from recsys_spark.tables.workspace import Workspace

log = logging.getLogger("recsys_spark")

STAGE, TABLE = "run_pipeline", "job_runs"
LONGEST = 500
"""Characters of an error that are kept."""


@dataclass(frozen=True)
class JobRun:
    """A row of the table, less its number."""

    job: str
    date: date | None
    """The run's day: `--date`, else that of the newest event; None where neither was known."""
    attempt: int
    """1, 2, ... of the same run."""
    status: Status
    started: datetime
    seconds: float
    rows_in: int | None = None
    """Rows that were read: of the sources where the job cleaned them, else of the tables it was made from."""
    rows_out: int | None = None
    """Rows of the tables that its last stage published."""
    error: str | None = None
    run_id: str | None = None
    """Its run in MLflow."""
    host: str | None = None
    pid: int | None = None


def read_runs(workspace: Workspace) -> list[dict[str, Any]]:
    """All rows, oldest first."""
    return read_rows(workspace.latest(STAGE), TABLE)


def append(workspace: Workspace, run: JobRun) -> Commit:
    """Publish the table with one more row; where another job does the same, one after the other.

    It needs no lock: a job that did not get the lock has a row, too.
    """
    row = asdict(run) | {"error": one_line(run.error)}
    while True:
        with suppress(OvertakenError):
            return publish_rows(workspace, TABLE, [row], "", fence=None)


def record(workspace: Workspace, run: JobRun) -> Commit | None:
    """The same for a job that must go on whatever becomes of its row."""
    try:
        return append(workspace, run)
    except Exception as error:
        log.warning("the row of this run is not in %s (%s: %s)", TABLE, type(error).__name__, one_line(str(error)))
        return None


def last_done(workspace: Workspace, job: str) -> date | None:
    """The latest day that a job is done with."""
    days = [row["date"] for row in read_runs(workspace) if row["job"] == job and row["status"] == "done"]
    return max((day for day in days if day is not None), default=None)


def one_line(text: str | None) -> str | None:
    """A text in one line that is not too long, without secrets: covered before it is cut, so that no half is left."""
    return " ".join(covered(text).split())[:LONGEST] if text else None


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)
