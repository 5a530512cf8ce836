"""What was measured of a day, and what is to be thought of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

Group = Literal["events", "features", "scores", "lists", "outcomes", "bias"]
Status = Literal["ok", "warn", "alert"]
GROUPS: tuple[Group, ...] = get_args(Group)
STATUSES: tuple[Status, ...] = get_args(Status)
"""From good to bad."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of one day."""

    day: date
    group: Group
    name: str
    """What is measured, such as `volume_ratio`: with the group the key of a `Kind`."""
    subject: str = ""
    """What of, where there are several: a column, a segment, an item; empty for the whole."""
    value: float | None
    """Never NaN; infinite where something stands against nothing; None where it could not be measured."""
    reference: float | None = None
    """What is usual, in the unit of what the sentence compares; None where the kind has an absolute limit alone."""
    rows: int | None = None
    """How many events, users or lists the value rests on; a Kind's `least_rows` looks at it. None: it always counts."""
    detail: str = ""
    """Further words for the sentence, such as the item's id, in one line."""

    @property
    def key(self) -> str:
        """The key of its kind: `group.name`."""
        return f"{self.group}.{self.name}"


@dataclass(frozen=True)
class Finding:
    """A measure with its verdict."""

    measure: Measure
    status: Status
    sentence: str
    """One line: what, how much, against what; for a warning or an alert also where to look."""
