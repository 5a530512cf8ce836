"""What follows once a day's findings are published: publication held up, the way back, and people told of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from recsys_spark.errors import UserError
from recsys_spark.monitoring.actions import Plan, acknowledge, plan, roll_back_mark
from recsys_spark.monitoring.alerting import News, tell, write_log
from recsys_spark.monitoring.finding import Finding, Measure
from recsys_spark.monitoring.ledger import TABLE, Action, append, read_actions
from recsys_spark.monitoring.live import live_lists, newest_lists
from recsys_spark.monitoring.measured import read_findings
from recsys_spark.monitoring.page import PAGE
from recsys_spark.pipeline.runner import Runner
from recsys_spark.promotion.decisions import Request
from recsys_spark.promotion.ledger import PUBLISHING, STAGE, read_decisions
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace

log = logging.getLogger("recsys_spark")

MONITOR = "monitor"
"""Who rolled back, in the record of promotions."""
ON_THE_DAY = ("outcomes", "bias")
"""Groups that look at the lists that users saw on the day; the others look at those made at its end."""


def respond(runner: Runner, commit: Commit, day: date) -> dict[str, Any]:
    """Do what the findings of `day`, committed by the stage monitor, ask for; what the job's JSON line says of it.

    In this order: publication is held up, the champion before is brought back, people are told of both. Each step is
    recorded as it is done, and none is done twice for a day that is monitored again and found the same.
    """
    settings, workspace = runner.config.monitoring, runner.workspace
    findings = read_findings(commit, day, day)
    write_log(findings)
    before = read_actions(workspace)
    planned = plan(day, findings, before, settings.on_alert, commit.run_id)
    _write(runner, planned.rows)
    rolled_back = _roll_back(runner, planned.roll_back, commit.run_id)
    _write(runner, rolled_back)
    done = _sentences(planned, rolled_back)
    page = commit.path(PAGE)
    news = News(day, findings, done, workspace.root.name, page if page.is_file() else None, commit.run_id)
    told = tell(news, settings.notify, before)
    _write(runner, told)
    return {
        "held_up_by": [f"{row.kind} of {row.day}" for row in planned.standing],
        "rolled_back": any(row.action == "rolled_back" for row in rolled_back),
        "told": {row.subject: row.comment or "sent" for row in told},
    }


def acknowledged(runner: Runner, person: str, comment: str, day: date | None) -> dict[str, Any]:
    """Let publication go on; what the job's JSON line says of it. Raises UserError where nothing holds it up."""
    rows = acknowledge(runner.workspace, person, comment, day)
    for row in rows:
        log.info("monitor: %s acknowledges %s of %s: %s", person, row.kind, row.day, comment)
    newest = runner.workspace.require("monitor.actions")
    runner.replace_views(newest)
    return {
        "acknowledged": [f"{row.kind} of {row.day}" for row in rows],
        "outputs": {TABLE: str(newest.path(TABLE))},
    }


def _write(runner: Runner, rows: Sequence[Action]) -> None:
    commit = append(runner.workspace, rows)
    if rows and commit is not None:
        runner.replace_views(commit)


def _roll_back(runner: Runner, wanted: Finding | None, run_id: str) -> list[Action]:
    """Bring the champion before back, unless that was done for this day, or other lists than the bad ones are live."""
    if wanted is None:
        return []
    measure = wanted.measure
    if _done(runner.workspace, measure.day):
        log.info("monitor: for an alert of %s the champion was rolled back already", measure.day)
        return []
    about = (measure.day, measure.key, measure.subject, wanted.sentence)
    reason = _not_now(runner.workspace, wanted)
    if reason is None:
        # Late: it imports most of what jobs are made of, and alerts are rare.
        from recsys_spark.pipeline.promote import promotion_stage

        comment = f"{roll_back_mark(measure.day)}{measure.key}: {wanted.sentence}"
        try:
            runner.run(promotion_stage(Request(rollback=True, by=MONITOR, comment=comment)))
        except UserError as error:
            reason = str(error)
    if reason is not None:
        log.error("monitor: not rolled back for %s: %s", measure.key, reason)
        return [Action("not_rolled_back", *about, comment=reason, run_id=run_id)]
    lists = runner.workspace.require(PUBLISHING)
    runner.replace_views(lists)
    log.warning("monitor: rolled back for %s: version %d of the lists is published", measure.key, lists.version)
    return [Action("rolled_back", *about, person=MONITOR, run_id=run_id)]


def _done(workspace: Workspace, day: date) -> bool:
    """Was the champion rolled back for an alert of this day: the decisions say so, even where a run died after it."""
    decisions = read_decisions(workspace.latest(STAGE))
    comments = [row["comment"] or "" for row in decisions if row["action"] == "rolled_back"]
    return any(comment.startswith(roll_back_mark(day)) for comment in comments)


def _not_now(workspace: Workspace, wanted: Finding) -> str | None:
    """Why there is nothing to go back from; None where there is."""
    newest, measured = workspace.latest(PUBLISHING), _measured_lists(workspace, wanted.measure)
    if newest is None or measured is None:
        return "no lists were published by then"
    if newest.facts.get("served_model_version") != measured.facts.get("served_model_version"):
        return "the lists that were monitored are another model's than those that are published now"
    return None


def _measured_lists(workspace: Workspace, measure: Measure) -> Commit | None:
    """The lists that a finding is about."""
    if measure.group in ON_THE_DAY:
        live = live_lists(workspace, measure.day)
        return live.commit if live else None
    return newest_lists(workspace, datetime.combine(measure.day + timedelta(days=1), time()))


def _sentences(planned: Plan, rolled_back: Sequence[Action]) -> list[str]:
    """What was done, for the message."""
    said = []
    if planned.standing:
        kinds = ", ".join(dict.fromkeys(f"{row.kind} of {row.day}" for row in planned.standing))
        said.append(f"Publication is held up by {kinds}, until somebody acknowledges it or its day is well again.")
    for row in rolled_back:
        if row.action == "rolled_back":
            said.append(f"The champion before and its lists are back, because of {row.kind}.")
        else:
            said.append(f"The champion was not rolled back for {row.kind}: {row.comment}.")
    return said
