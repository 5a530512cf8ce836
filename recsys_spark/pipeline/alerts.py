"""What follows once a day's findings are published: publication held up, the way back, and people told of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

from recsys_spark.errors import UserError
from recsys_spark.monitoring.actions import OF_LIVE_LISTS, Plan, acknowledge, plan_of, roll_back_mark
from recsys_spark.monitoring.alerting import News, tell, write_log
from recsys_spark.monitoring.finding import Finding, Measure
from recsys_spark.monitoring.ledger import TABLE, Action, append, undelivered
from recsys_spark.monitoring.live import live_lists, newest_lists
from recsys_spark.monitoring.measured import read_findings
from recsys_spark.monitoring.page import PAGE
from recsys_spark.pipeline.runner import Runner
from recsys_spark.promotion.decisions import Request
from recsys_spark.promotion.ledger import PUBLISHING, STAGE, read_decisions
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import CHAMPION

log = logging.getLogger("recsys_spark")

MONITOR = "monitor"
"""Who rolled back, in the record of promotions."""
LATE = "This could not be delivered when the day was monitored."


def respond(runner: Runner, commit: Commit, day: date) -> dict[str, Any]:
    """Do what the findings of `day`, committed by the stage monitor, ask for; what the job's JSON line says of it.

    In this order: publication is held up, the champion before is brought back, people are told of both. Each step is
    recorded as it is done, and none is done twice for a day that is monitored again and found the same. Where going
    back fails by another error than a UserError, that error is raised once people were told.
    """
    settings, workspace = runner.config.monitoring, runner.workspace
    findings = read_findings(commit, day, day)
    write_log(findings)
    planned = plan_of(workspace, day, findings, settings.on_alert, commit.run_id)
    for finding in planned.passed:
        log.info("monitor: %s holds up nothing: it is about lists from before the day", finding.measure.key)
    _write(runner, planned.rows)
    rolled_back, fault = _roll_back(runner, planned.roll_back, commit.run_id)
    try:
        _write(runner, rolled_back)
    except Exception as error:  # people are to know all the same
        fault = fault or error
    done = _sentences(planned, rolled_back)
    page = commit.path(PAGE)
    news = News(
        day=day,
        findings=findings,
        done=done,
        workspace=workspace.root.name,
        page=page if page.is_file() else None,
        run_id=commit.run_id,
        at_least=settings.notify.at_least,
    )
    told = tell(news, settings.notify, planned.before, earlier=_late(commit, news, planned.before))
    _write(runner, told)
    if fault is not None:
        raise fault
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


def _late(commit: Commit, news: News, before: Sequence[Action]) -> list[News]:
    """News of the days before of which not all could be told, oldest first, by what was found last on each."""
    return [
        replace(news, day=day, findings=read_findings(commit, day, day), done=[LATE, *_went(before, day)])
        for day in sorted({day for day, _ in undelivered(before, news.day)})
    ]


def _roll_back(runner: Runner, wanted: Finding | None, run_id: str) -> tuple[list[Action], Exception | None]:
    """Bring the champion before back, unless that was done for this day, or there is no sense in it (`_not_now`).

    The rows of it, and an error that the caller is to raise, since it is no UserError.
    """
    if wanted is None:
        return [], None
    measure, fault = wanted.measure, None
    if _done(runner.workspace, measure.day):
        log.info("monitor: for an alert of %s the champion was rolled back already", measure.day)
        return [], None
    about = (measure.day, measure.key, measure.subject, wanted.sentence)
    try:
        reason = _not_now(runner.workspace, wanted)
        if reason is None:
            _go_back(runner, wanted)
    except UserError as error:
        reason = str(error)
    except Exception as error:  # its text may hold a secret; it is raised once people were told
        reason, fault = type(error).__name__, error
    if reason is not None:
        log.error("monitor: not rolled back for %s: %s", measure.key, reason)
        return [Action("not_rolled_back", *about, comment=reason, run_id=run_id)], fault
    lists = runner.workspace.require(PUBLISHING)
    try:
        runner.replace_views(lists)
    except Exception as error:  # the champion is back all the same
        fault = error
    log.warning("monitor: rolled back for %s: version %d of the lists is published", measure.key, lists.version)
    return [Action("rolled_back", *about, person=MONITOR, run_id=run_id)], fault


def _go_back(runner: Runner, wanted: Finding) -> None:
    # Late: it imports most of what jobs are made of, and alerts are rare.
    from recsys_spark.pipeline.promote import promotion_stage

    measure = wanted.measure
    comment = f"{roll_back_mark(measure.day)}{measure.key}: {wanted.sentence}"
    runner.run(promotion_stage(Request(rollback=True, by=MONITOR, comment=comment)))


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
    if newest.facts.get("served") != CHAMPION:
        return "the lists that are published now are not the champion's"
    if _went_back_last(workspace):
        return "it went back already, nobody was promoted since, and it did not help"
    return None


def _went_back_last(workspace: Workspace) -> bool:
    """Was the last move of the champion this job's way back: a further one each night would empty the shelf."""
    moves = [row for row in read_decisions(workspace.latest(STAGE)) if row["action"] in ("promoted", "rolled_back")]
    return bool(moves) and moves[-1]["action"] == "rolled_back" and moves[-1]["approved_by"] == MONITOR


def _measured_lists(workspace: Workspace, measure: Measure) -> Commit | None:
    """The lists that a finding is about."""
    if measure.group in OF_LIVE_LISTS:
        live = live_lists(workspace, measure.day)
        return live.commit if live else None
    return newest_lists(workspace, datetime.combine(measure.day + timedelta(days=1), time()))


def _sentences(planned: Plan, rolled_back: Sequence[Action]) -> list[str]:
    """What was done, for the message."""
    said = []
    if planned.standing:
        kinds = ", ".join(dict.fromkeys(f"{row.kind} of {row.day}" for row in planned.standing))
        said.append(f"Publication is held up by {kinds}, until somebody acknowledges it or its day is well again.")
    return [*said, *_back(rolled_back)]


def _went(before: Sequence[Action], day: date) -> list[str]:
    """What became of going back for an earlier day."""
    return _back([row for row in before if row.day == day and row.action in ("rolled_back", "not_rolled_back")])


def _back(rolled_back: Sequence[Action]) -> list[str]:
    said = []
    for row in rolled_back:
        if row.action == "rolled_back":
            said.append(f"The champion before and its lists are back, because of {row.kind}.")
        else:
            said.append(f"The champion was not rolled back for {row.kind}: {row.comment}.")
    return said
