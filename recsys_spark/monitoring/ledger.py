"""The table `alert_actions`: what became of alerts, one row each, never changed; and what stands because of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from recsys_spark.tables.ledger import publish_rows, read_rows
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace

STAGE, TABLE = "monitor.actions", "alert_actions"
What = Literal["held", "released", "acknowledged", "rolled_back", "not_rolled_back", "sent", "not_sent"]
"""`held`: the alert holds up publication; `released`: its day was monitored again and all was well; `acknowledged`:
somebody lets publication go on; `sent`: a message went out, and `subject` says by what; `not_sent`: it could not."""


LATE_DAYS = 7
"""For so many days a message that could not be sent is tried again."""


@dataclass(frozen=True)
class Action:
    """A row of the table, less its number and time."""

    action: What
    day: date
    """The monitored day."""
    kind: str = ""
    """Of the finding, such as `events.price_level`."""
    subject: str = ""
    """Of the finding; of a message the way by which it went."""
    sentence: str = ""
    """Of the finding; of a message its digest."""
    person: str | None = None
    comment: str | None = None
    run_id: str | None = None
    """The run in MLflow that found it."""

    @property
    def about(self) -> tuple[date, str, str]:
        """Day, kind and subject."""
        return self.day, self.kind, self.subject


def read_actions(workspace: Workspace) -> list[Action]:
    """All rows, oldest first."""
    rows = read_rows(workspace.latest(STAGE), TABLE)
    return [Action(**{name: row[name] for name in Action.__dataclass_fields__}) for row in rows]


def append(workspace: Workspace, actions: Sequence[Action]) -> Commit | None:
    """Publish the table with these rows added; the newest version where there are none to add.

    The caller holds the lock of the workspace. Raises OvertakenError where another writer came between.
    """
    if not actions:
        return workspace.latest(STAGE)
    at = datetime.now(UTC)
    rows = [asdict(action) | {"at": at} for action in actions]
    return publish_rows(workspace, TABLE, rows, actions[-1].run_id or "", workspace.fence)


def standing(actions: Sequence[Action]) -> list[Action]:
    """The rows `held` that still hold up publication, oldest first."""
    held: dict[tuple[date, str, str], Action] = {}
    for row in actions:
        if row.action == "held":
            held[row.about] = row
        elif row.action in ("released", "acknowledged"):
            held.pop(row.about, None)
    return list(held.values())


def acknowledged(actions: Sequence[Action]) -> set[tuple[date, str, str]]:
    """Day, kind and subject of the alerts with which somebody lets publication go on."""
    return {row.about for row in actions if row.action == "acknowledged"}


def undelivered(actions: Sequence[Action], day: date) -> list[tuple[date, str]]:
    """Day and way of the messages that could not be sent in the LATE_DAYS days before `day`, oldest first."""
    newest = {(row.day, row.subject): row.action for row in actions if row.action in ("sent", "not_sent")}
    first = day - timedelta(days=LATE_DAYS)
    return sorted(about for about, action in newest.items() if action == "not_sent" and first <= about[0] < day)
