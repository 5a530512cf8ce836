"""The table `alert_actions`: what became of alerts, one row each, never changed; and what stands because of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.scheduling.job_runs import TYPES, now
from recsys_spark.tables.pointer import Commit, publish, sync_tree
from recsys_spark.tables.schemas import TABLES
from recsys_spark.tables.workspace import Workspace

STAGE, TABLE = "monitor.actions", "alert_actions"
SCHEMA = pa.schema(
    [(name, TYPES[kind]) for name, kind in (column.split(" ") for column in TABLES[TABLE].columns.split(", "))]
)
"""The table's columns, without asking Spark: who acknowledges an alert must not wait for a session."""
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
    commit = workspace.latest(STAGE)
    rows = [] if commit is None else _read(commit).to_pylist()
    return [Action(**{name: row[name] for name in Action.__dataclass_fields__}) for row in rows]


def append(workspace: Workspace, actions: Sequence[Action]) -> Commit | None:
    """Publish the table with these rows added; the newest version where there are none to add.

    The caller holds the lock of the workspace. Raises OvertakenError where another writer came between.
    """
    before = workspace.latest(STAGE)
    if not actions:
        return before
    rows = _read(before).cast(SCHEMA) if before else SCHEMA.empty_table()
    directory = workspace.new_run_directory(STAGE, uuid.uuid4().hex)
    both = pa.concat_tables([rows, pa.Table.from_pylist(_numbered(actions, rows.num_rows, now()), SCHEMA)])
    (directory / TABLE).mkdir()
    pq.write_table(both, directory / TABLE / "part-00000.parquet")
    (directory / TABLE / "_SUCCESS").touch()
    sync_tree(directory)
    return publish(
        workspace.stage_directory(STAGE),
        STAGE,
        directory,
        key=f"{both.num_rows:06d}",
        run_id=actions[-1].run_id or "",
        tables={TABLE: both.num_rows},
        inputs={},
        metrics={},
        facts={},
        as_of=None,
        after=before.version if before else 0,
        fence=workspace.fence,
    )


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


def _numbered(actions: Sequence[Action], before: int, at: datetime) -> list[dict[str, Any]]:
    return [
        {**asdict(action), "action_id": f"{before + number:06d}", "at": at} for number, action in enumerate(actions, 1)
    ]


def _read(commit: Commit) -> pa.Table:
    path: Path = commit.path(TABLE)
    return pq.read_table(sorted(path.glob("*.parquet")))
