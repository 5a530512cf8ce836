"""The table `promotions`: every decision, one row each, never changed; and what old ones keep from being removed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys_spark.promotion.decisions import Action, State
from recsys_spark.promotion.gates import Gate, failed
from recsys_spark.tables.ledger import add_rows, read_rows
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace

STAGE, TABLE, PUBLISHING = "promote_model", "promotions", "fuse_recommendations"


@dataclass(frozen=True)
class Decision:
    """A row of the table, less what numbers and dates it."""

    action: Action
    challenger: str | None
    """Registered version."""
    champion: str | None
    """Registered version of the champion before the decision."""
    gates: Sequence[Gate] = ()
    approved_by: str | None = None
    """Who decided, where a person did."""
    comment: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    """Of the model that the decision is about: data, id-map and split version, code and components."""

    @property
    def passed(self) -> bool | None:
        """Were all gates passed; None where none was asked."""
        return not failed(self.gates) if self.gates else None


def read_decisions(commit: Commit | None) -> list[dict[str, Any]]:
    """All rows of a committed version, oldest first; none before the first."""
    return read_rows(commit, TABLE)


def append(previous: Commit | None, target: Path, decisions: Sequence[Decision], model: str, run_id: str) -> int:
    """Write the rows of the version before and then the new ones into the new directory `target`; returns all rows."""
    now = datetime.now(UTC)
    rows = [
        {
            "decided_at": now,
            "action": decision.action,
            "model": model,
            "challenger": decision.challenger,
            "champion": decision.champion,
            "passed": decision.passed,
            "gates": json.dumps([gate.to_json() for gate in decision.gates], sort_keys=True),
            "approved_by": decision.approved_by,
            "comment": decision.comment or None,
            "lineage": json.dumps(decision.lineage, sort_keys=True),
            "run_id": run_id,
        }
        for decision in decisions
    ]
    return add_rows(previous, TABLE, target, rows)


def state_of(commit: Commit | None) -> State:
    """What the decisions so far came to."""
    return State() if commit is None else State.from_json(commit.facts["state"])


def rollback_pins(workspace: Workspace) -> list[tuple[str, int]]:
    """Stage and version of all that going back to an earlier champion needs."""
    pins: set[tuple[str, int]] = set()
    for champion in state_of(workspace.latest(STAGE)).champions:
        pins |= set(champion.pins.items())
        if champion.published is not None:
            pins.add((PUBLISHING, champion.published))
    return sorted(pins)
