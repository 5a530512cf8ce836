"""What follows from alerts: publication is held up until somebody says otherwise, or the champion before comes back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

from recsys_spark.config.alerting import OnAlert
from recsys_spark.errors import UserError
from recsys_spark.monitoring.finding import Finding
from recsys_spark.monitoring.kinds import EVERY
from recsys_spark.monitoring.ledger import Action, acknowledged, append, read_actions, standing
from recsys_spark.monitoring.live import made_with
from recsys_spark.tables.workspace import Workspace

GO_ON = "jobs/monitor.py --acknowledge NAME --comment TEXT"
OF_THE_LISTS = ("lists", "scores")
"""Groups that are about the newest lists: they hold up the next ones where these were made with the day's events."""
OF_LIVE_LISTS = ("outcomes", "bias")
"""Groups that are about the lists that users saw on the day, made before it, where the others look at those made at its
end: they never hold up publication, which is how users get others."""
AGE = "lists.age_days"
"""Nor does the age of the lists: only newer ones would mend it."""


@dataclass(frozen=True)
class Plan:
    """What is to be done about the findings of a day."""

    rows: tuple[Action, ...] = ()
    """New rows `held` and `released`."""
    standing: tuple[Action, ...] = ()
    """What holds up publication once they are written."""
    roll_back: Finding | None = None
    """The alert for which the champion before is wanted back."""
    passed: tuple[Finding, ...] = ()
    """Alerts of kinds that hold up publication which do not, since they are about lists from before the day."""
    before: tuple[Action, ...] = ()
    """All rows of the ledger that it was made from."""


def plan_of(
    workspace: Workspace, day: date, findings: Sequence[Finding], on_alert: OnAlert, run_id: str | None = None
) -> Plan:
    """What follows from the findings of `day`, as the ledger and the lists of the workspace stand."""
    before, new_lists = read_actions(workspace), made_with(workspace, day)
    return plan(day, findings, before, on_alert, run_id, new_lists=new_lists)


def plan(
    day: date,
    findings: Sequence[Finding],
    before: Sequence[Action],
    on_alert: OnAlert,
    run_id: str | None = None,
    *,
    new_lists: bool = False,
) -> Plan:
    """What follows from the findings of `day`, given all rows of the ledger so far.

    `new_lists`: the lists that were measured were made with the day's events. Where they were not, an alert about them
    holds up nothing, or the lists of yesterday would forbid those of today; one that holds already stays until it is
    gone. An alert that somebody acknowledged does not hold up publication a second time, however often its day is
    monitored.
    """
    alerts = [finding for finding in findings if finding.status == "alert"]
    stopping = [finding for finding in alerts if _named(finding, on_alert.block_publication)]
    bad = {_about(day, finding) for finding in stopping if not _of_live_lists(finding)}
    held = {row.about for row in standing(before)}
    known = held | acknowledged(before)
    unknown = [finding for finding in stopping if _about(day, finding) not in known]
    passed = [one for one in unknown if _of_live_lists(one) or (one.measure.group in OF_THE_LISTS and not new_lists)]
    rows = [
        Action("held", *_about(day, finding), finding.sentence, run_id=run_id)
        for finding in unknown
        if finding not in passed
    ]
    rows += [
        Action("released", *about, run_id=run_id) for about in sorted(held) if about[0] == day and about not in bad
    ]
    wanted = next((finding for finding in alerts if _named(finding, on_alert.roll_back)), None)
    return Plan(tuple(rows), tuple(standing([*before, *rows])), wanted, tuple(passed), tuple(before))


def check_publication(workspace: Workspace) -> None:
    """Raises UserError where an alert holds up publication: which one, and how to go on."""
    held = standing(read_actions(workspace))
    if held:
        raise UserError(f"publication is held up by {named(held)}; nothing was published. {how_to_go_on(held)}")


def named(held: Sequence[Action]) -> str:
    """The first alert with its sentence, and how many more there are."""
    first, more = held[0], len(held) - 1
    others = f", and by {more} more ({', '.join(dict.fromkeys(row.kind for row in held[1:]))})" if more else ""
    return f"the alert {first.kind} of {first.day} ({first.sentence}){others}"


def how_to_go_on(held: Sequence[Action]) -> str:
    """What lets publication go on."""
    days = sorted({row.day for row in held})
    again = f"monitor {'its day' if len(days) == 1 else 'their days'} again (jobs/monitor.py --date {days[0]})"
    return f"Mend what is wrong and {again}, or let it pass: {GO_ON}"


def acknowledge(workspace: Workspace, person: str, comment: str, day: date | None = None) -> list[Action]:
    """Let publication go on in spite of the alerts that hold it up, by default those of all days; returns their rows.

    The caller holds the lock of the workspace. Raises UserError where nothing holds it up.
    """
    held = [row for row in standing(read_actions(workspace)) if day in (None, row.day)]
    if not held:
        of_day = f" of {day}" if day else ""
        raise UserError(f"--acknowledge: no alert{of_day} holds up publication; nothing was changed")
    rows = [
        Action("acknowledged", *row.about, row.sentence, person=person, comment=comment, run_id=row.run_id)
        for row in held
    ]
    append(workspace, rows)
    return rows


def roll_back_mark(day: date) -> str:
    """What the comment of a roll back for an alert of this day begins with, so that there is one a day at most."""
    return f"alert of {day}: "


def _about(day: date, finding: Finding) -> tuple[date, str, str]:
    return day, finding.measure.key, finding.measure.subject


def _of_live_lists(finding: Finding) -> bool:
    return finding.measure.group in OF_LIVE_LISTS or finding.measure.key == AGE


def _named(finding: Finding, kinds: Collection[str]) -> bool:
    return EVERY in kinds or finding.measure.key in kinds
