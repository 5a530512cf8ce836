"""What changed since the day before: verdicts that came and went, and the values that moved most."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from recsys_spark.monitoring.finding import STATUSES, Finding
from recsys_spark.monitoring.page.content import Content, Series

LEAST_DAYS = 7
"""Earlier days that a series must have before it is said to have moved."""
MOVED = 4.0
"""How many times farther from the median of the earlier days than half of these are."""
MOST = 3
"""Moved series that are told."""


@dataclass(frozen=True)
class Moved:
    """A series whose newest value is far from what it used to be, though well within its limits."""

    series: Series
    value: float
    usual: float
    """The median of the earlier days."""
    times: float
    """How many times farther from it than half of the earlier days' values are; infinite where all were the same."""


def worse(content: Content) -> list[Finding]:
    """Findings of the day whose status is worse than on the monitored day before; all bad ones where there is none."""
    return [one for one, before in _pairs(content) if one.status != "ok" and _rank(one) > _rank(before)]


def better(content: Content) -> list[tuple[Finding, Finding]]:
    """Findings of the day before and of the day, where the status got better."""
    pairs = [(before, one) for one, before in _pairs(content) if before is not None and _rank(one) < _rank(before)]
    return sorted(pairs, key=lambda pair: -_rank(pair[0]))


def moved(content: Content) -> list[Moved]:
    """The series that are well whose values moved most against their own earlier days, farthest first."""
    found = [one for series in content.series if (one := _moved(content, series))]
    return sorted(found, key=lambda one: (-one.times, one.series.title))[:MOST]


def _pairs(content: Content) -> list[tuple[Finding, Finding | None]]:
    before = content.before
    named = {(series.kind.key, series.subject): series for series in content.series}
    return [(one, named[one.measure.key, one.measure.subject].on(before) if before else None) for one in content.today]


def _rank(finding: Finding | None) -> int:
    return STATUSES.index(finding.status) if finding else 0


def _moved(content: Content, series: Series) -> Moved | None:
    newest = series.on(content.day)
    values = {one.measure.day: one.measure.value for one in series.findings}
    earlier = [value for day, value in values.items() if day != content.day and value is not None]
    value = newest.measure.value if newest else None
    if (
        newest is None
        or newest.status != "ok"
        or value is None
        or not math.isfinite(value)
        or len(earlier) < LEAST_DAYS
    ):
        return None
    usual = statistics.median(earlier)
    spread = statistics.median(abs(each - usual) for each in earlier)
    away = abs(value - usual)
    if away == 0 or not math.isfinite(usual):
        return None
    times = away / spread if spread else math.inf
    return Moved(series, value, usual, times) if times > MOVED else None
