"""The stage monitor: a day is measured, judged and recorded; what follows from alerts is done once it is committed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from recsys_spark.errors import UserError
from recsys_spark.monitoring.context import MonitorContext
from recsys_spark.monitoring.finding import STATUSES, Finding
from recsys_spark.monitoring.groups import MEASURED
from recsys_spark.monitoring.judging import judge
from recsys_spark.monitoring.measured import STAGE, TABLE, write_day
from recsys_spark.monitoring.page import PAGE
from recsys_spark.monitoring.page.write import write_page
from recsys_spark.pipeline.alerts import respond
from recsys_spark.pipeline.runner import Outcome, Runner
from recsys_spark.pipeline.stage import FILES, Stage, StageContext, StageResult, always
from recsys_spark.tables.pointer import Commit

MOST_METRICS = 400
"""Measures that go to MLflow at most, those with a finding first."""


def monitor_stage() -> Stage:
    """A day as a stage: its date need not be that of the newest events."""
    return Stage(
        name=STAGE,
        upstream=("clean_events",),
        config_keys=("monitoring", "evaluation", "cleaning.lateness_days"),
        run=run,
        append_only=always,
        day="given",
    )


def monitored(runner: Runner) -> tuple[Outcome, dict[str, Any]]:
    """Monitor a day and do what its findings ask for; what the job's JSON line says of it."""
    outcome = runner.run(monitor_stage())
    told = outcome.commit.facts
    day = date.fromisoformat(told["day"])
    done = respond(runner, outcome.commit, day)
    return outcome, {name: told[name] for name in ("day", "counts", "alerts")} | done


def run(context: StageContext) -> StageResult:
    """The day's rows of the table `monitoring` beside those of the other days, its metrics, and the page.

    Facts: `day`, `counts` by status, and `alerts`, a sentence each with its kind. Raises UserError for a day that
    clean_events does not reach.
    """
    assert context.as_of is not None, "given, or that of the events"
    day = (context.as_of - timedelta(days=1)).date()
    _check_reached(day, context.inputs["clean_events"])
    watched = MonitorContext(context.config, context.workspace, day, context.session)
    try:
        measures = [measure for measured in MEASURED.values() for measure in measured(watched)]
    finally:
        watched.close()
    findings = judge(measures, context.config.monitoring.judged_by())
    previous = context.previous
    write_day(previous, context.new_table_directory(TABLE), day, findings, context.run_id)
    context.finish_table(TABLE)
    settings, about = context.config.monitoring, {"run": context.run_id}
    page = write_page(context.run_directory, day, findings, context.workspace, previous, settings, about)
    context.tracked.log_artifact(page)
    context.tracked.log_metrics(metrics_of(findings))
    counts = counts_of(findings)
    context.tracked.set_tags({"recsys.monitored": day.isoformat()})
    context.progress(f"{day}: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    return StageResult(
        metrics={f"monitor.{status}": float(count) for status, count in counts.items()},
        facts={"day": day.isoformat(), "counts": counts, "alerts": alerts_of(findings), FILES: [PAGE]},
    )


def metrics_of(findings: Sequence[Finding]) -> dict[str, float]:
    """Values by `monitor.<group>.<name>[.<subject>]`: those that are numbers, the worst first, MOST_METRICS at most."""
    found: dict[str, float] = {}
    for measure in (finding.measure for finding in findings):
        if measure.value is not None and len(found) < MOST_METRICS:
            found[".".join(part for part in ("monitor", measure.key, measure.subject) if part)] = measure.value
    return found


def counts_of(findings: Sequence[Finding]) -> dict[str, int]:
    """Findings by status, each status with its number."""
    return {status: sum(finding.status == status for finding in findings) for status in STATUSES}


def alerts_of(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Kind, subject and sentence of each alert."""
    return [
        {"kind": finding.measure.key, "subject": finding.measure.subject, "sentence": finding.sentence}
        for finding in findings
        if finding.status == "alert"
    ]


def _check_reached(day: date, clean: Commit) -> None:
    """Where days arrive one by one, nothing is known of a day that no run took in; a day without events is another."""
    if clean.as_of is not None and datetime.fromisoformat(clean.as_of).date() <= day:
        newest = datetime.fromisoformat(clean.as_of).date() - timedelta(days=1)
        raise UserError(f"--date {day}: clean_events reaches to {newest}; run jobs/clean_events.py for {day} first")
