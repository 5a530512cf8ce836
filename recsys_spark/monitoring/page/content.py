"""What the page shows, as plain values: findings of the last days, by kind and subject."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from recsys_spark.monitoring.finding import STATUSES, Finding, Group, Status
from recsys_spark.monitoring.kinds import Kind, Limit
from recsys_spark.monitoring.ledger import Action


@dataclass(frozen=True)
class Series:
    """A kind's findings of one subject over the shown days, oldest first; not every day need have one."""

    kind: Kind
    subject: str
    findings: Sequence[Finding]

    @property
    def title(self) -> str:
        """What it is called."""
        return self.kind.named(self.subject)

    def on(self, day: date) -> Finding | None:
        """The finding of a day."""
        return next((one for one in reversed(self.findings) if one.measure.day == day), None)

    def status(self, day: date) -> Status | None:
        """Its status, None where it was not measured."""
        found = self.on(day)
        return found.status if found else None

    def badness(self, day: date) -> float:
        """How far its value of a day is to the bad side, to be compared within a kind."""
        found = self.on(day)
        value = found.measure.value if found else None
        if value is None:
            return -math.inf
        if self.kind.bad == "both":
            return max(value, 1 / value) if value > 0 else math.inf
        return -value if self.kind.bad == "low" else value


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that the page is made from."""

    day: date
    """The monitored day."""
    days: int
    """How many days are shown, that one included."""
    about: Mapping[str, str]
    """Workspace, run and the like, as they are shown."""
    findings: Sequence[Finding]
    """Of the shown days; others are left out."""
    held: Sequence[Action] = ()
    """Alerts that hold up publication."""
    limits: Mapping[str, Limit]
    """Those that differ from the kinds' defaults."""
    kinds: Mapping[str, Kind]
    """The registry of kinds, in the order in which they are shown."""

    @property
    def first(self) -> date:
        """The first day that is shown."""
        return self.day - timedelta(days=self.days - 1)

    @cached_property
    def series(self) -> list[Series]:
        """In the order of the registry, within a kind by subject."""
        found: dict[tuple[str, str], list[Finding]] = {}
        for one in sorted(self.findings, key=lambda one: one.measure.day):
            if self.first <= one.measure.day <= self.day and one.measure.key in self.kinds:
                found.setdefault((one.measure.key, one.measure.subject), []).append(one)
        order = list(self.kinds)
        keys = sorted(found, key=lambda key: (order.index(key[0]), key[1]))
        return [Series(self.kinds[key], subject, found[key, subject]) for key, subject in keys]

    def of_group(self, group: Group) -> list[Series]:
        """The series of a group."""
        return [series for series in self.series if series.kind.group == group]

    @property
    def today(self) -> list[Finding]:
        """The findings of the monitored day, the worst first."""
        found = [one for series in self.series if (one := series.on(self.day))]
        return sorted(found, key=lambda one: -STATUSES.index(one.status))

    @property
    def before(self) -> date | None:
        """The newest shown day before it that was monitored."""
        earlier = {one.measure.day for series in self.series for one in series.findings} - {self.day}
        return max(earlier, default=None)

    def worst(self, group: Group, day: date) -> Status | None:
        """The worst status of a group's findings on a day, None where it has none."""
        found = [status for series in self.of_group(group) if (status := series.status(day))]
        return max(found, key=STATUSES.index, default=None)

    def limit(self, kind: Kind) -> Limit:
        """The limits that a kind is judged by."""
        return self.limits.get(kind.key) or kind.limit
