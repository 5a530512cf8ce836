"""What a run tells of itself: the report as JSON, page and metrics, and whether its tables may be published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recsys_spark.errors import UserError
from recsys_spark.events.arrivals import day_before
from recsys_spark.events.report.drift import drift
from recsys_spark.events.report.expectations import violations
from recsys_spark.events.report.page import report_page
from recsys_spark.events.report.report import report_metrics
from recsys_spark.pipeline.stage import StageContext

QUALITY, REPORT, PAGE = "quality", "report.json", "report.html"
SUMMARY = ("rows_in", "clean", "duplicates", "quarantined", "users", "items", "first_event", "newest_event")
"""What a commit keeps of the report; the whole stands in its directory."""


def publish_report(context: StageContext, report: dict[str, Any]) -> dict[str, float]:
    """Write and log the report; returns its metrics.

    Raises UserError with what is not met where the configured expectations do not hold: the report is then logged with
    the failed run, and nothing is published.
    """
    report["drift"] = drift(report, _previous(context), context.config.quality)
    report["violations"] = violations(report, context.config.quality)
    about = {"run": context.run_id, "date": "" if context.as_of is None else str(day_before(context.as_of))}
    directory = context.new_directory(QUALITY)
    (directory / REPORT).write_text(json.dumps(report, indent=1), encoding="utf-8")
    (directory / PAGE).write_text(report_page(report, about), encoding="utf-8")
    for name in (REPORT, PAGE):
        context.tracked.log_artifact(directory / name, QUALITY)
    metrics = report_metrics(report)
    context.progress(
        f"{report['rows_in']:,} rows: {report['clean']:,} clean, {report['duplicates']:,} duplicates, "
        f"{report['quarantined']:,} quarantined"
    )
    for finding in report["drift"]:
        context.progress(f"changed since the last published run: {finding['what']}")
    if report["violations"]:
        context.tracked.log_metrics(metrics)
        sentences = "; ".join(report["violations"])
        raise UserError(
            f"not published, the tables stay as they were: {sentences} (see {QUALITY}/{PAGE} of MLflow run "
            f"{context.run_id})"
        )
    return metrics


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the commit keeps."""
    return {name: report[name] for name in SUMMARY}


def _previous(context: StageContext) -> dict[str, Any] | None:
    """The report of the last published run."""
    before = context.previous
    path = None if before is None else before.path(QUALITY) / REPORT
    if path is None or not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
