"""Which raw rows a run reads and which event days it writes: everything, or what new arrivals touch.

The clean day d is a function of the rows of the days around it that landed in time (and of statistics of arrivals
before d), whatever the order in which days are run. With L = `cleaning.lateness_days` and F the days by which clocks
may run ahead (`cleaning.future_hours`), a row of day d is in time when it arrived from d - F to d + L. So an arrival on
day a touches the days a - L to a + F; where returns are netted against earlier purchases, a return looks back up to L
days, so that the arrival also touches the L days after, and 2 L days around a touched day are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from recsys_spark.config.cleaning import Cleaning


@dataclass(frozen=True)
class Scope:
    """What one run reads and writes."""

    arrivals: tuple[date, ...] | None
    """Arrival dates whose files are read; None where every file is."""
    new: tuple[date, ...] | None
    """Arrival dates that no committed version has taken in yet; rows of no day are written for these."""
    days: tuple[date, ...] | None
    """Event days that are written anew; None for all."""
    looked_at: tuple[date, ...] | None
    """Event days whose rows are read: the days that are written, and those that group rules look at from there."""


EVERYTHING = Scope(None, None, None, None)


def scope_of(landed: Iterable[date], new: Sequence[date], cleaning: Cleaning) -> Scope:
    """The scope of a run that takes in the arrivals `new`; `landed` are all arrivals there are, new ones included."""
    late, ahead = cleaning.lateness_days, cleaning.days_early
    around = late if cleaning.returns == "net" else 0
    days = _spread(new, -late, ahead + around)
    looked_at = _spread(days, -around, around)
    needed = _spread(looked_at, -ahead, late)
    return Scope(tuple(sorted(set(landed) & needed)), tuple(sorted(new)), tuple(sorted(days)), tuple(sorted(looked_at)))


def new_arrivals(now: Sequence[Mapping[date, int]], before: Sequence[Mapping[str, int]] | None) -> list[date]:
    """The arrival dates of which some source has another manifest than the committed version took in."""
    if before is None or len(before) != len(now):
        return sorted({day for each in now for day in each})
    return sorted(
        {
            day
            for current, committed in zip(now, before, strict=True)
            for day, number in current.items()
            if committed.get(day.isoformat()) != number
        }
    )


def _spread(days: Iterable[date], first: int, last: int) -> set[date]:
    return {day + timedelta(days=offset) for day in days for offset in range(first, last + 1)}
