"""From the findings to the page's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

from recsys_spark.config.monitoring import Monitoring
from recsys_spark.monitoring.actions import plan_of
from recsys_spark.monitoring.finding import Finding
from recsys_spark.monitoring.kinds import KINDS
from recsys_spark.monitoring.measured import read_findings
from recsys_spark.monitoring.page import PAGE
from recsys_spark.monitoring.page.content import Content
from recsys_spark.monitoring.page.page import monitoring_page
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace


def write_page(
    directory: Path,
    day: date,
    findings: Sequence[Finding],
    workspace: Workspace,
    previous: Commit | None,
    settings: Monitoring,
    about: Mapping[str, str],
) -> Path:
    """Write the page of `day` into `directory`; returns its path.

    `findings` are the day's, `previous` is the newest commit of `monitoring`, whose rows of that very day are left out.
    It shows what will hold up publication once the findings are acted on.
    """
    days = settings.days_kept_on_page
    earlier = read_findings(previous, day - timedelta(days=days - 1), day - timedelta(days=1))
    content = Content(
        day=day,
        days=days,
        about={"workspace": workspace.root.name, **about},
        findings=[*earlier, *findings],
        held=plan_of(workspace, day, findings, settings.on_alert).standing,
        limits=settings.judged_by(),
        kinds=KINDS,
    )
    path = directory / PAGE
    path.write_text(monitoring_page(content), encoding="utf-8")
    return path
