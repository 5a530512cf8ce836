"""The configuration of unattended runs: the lock of the workspace, retries, the time limit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recsys_spark.config.section import NotNegative, PositiveFloat, Section


class Schedule(Section):
    """What makes a job safe under any scheduler: one writer a workspace, retries after faults, a time limit."""

    lease_seconds: Annotated[float, Field(ge=5, le=86400)] = 120.0
    """How long the lock of the workspace outlives the last sign of life of the job that holds it, which gives one four
    times as often; on a network's file system well above the time for which its clients cache attributes."""
    wait_seconds: NotNegative = 0.0
    """How long a job waits while another one holds the lock, before it leaves with exit code 2."""
    retries: Annotated[int, Field(ge=0, le=20)] = 0
    """How often a job that met a fault (exit code 1) tries again; bad input is never tried again."""
    retry_seconds: NotNegative = 60.0
    """The pause before that."""
    limit_minutes: PositiveFloat | None = None
    """A job that takes longer, its retries included, stops itself with exit code 1; while catching up each day has so
    long."""
