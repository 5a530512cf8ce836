"""Which lists users saw on a day: the version of fuse_recommendations that was in force, made without the day's events.

Where a version had been published by the end of the day, the clock decides: a version is in force from its publication
to that of the next one, and the day's is the one that was longest in force on it. A roll back publishes an earlier
version again, so it counts from the moment of going back.

Where nothing had been published by then, the day is told after the fact (a replay, a catch-up): a version counts from
its `as_of`, one that was restored from the `as_of` of the version it stepped in for, and the newest is the day's.

Either way a version whose `as_of` lies after the day's begin knows of the day and is never its list, and no version is
given where the one in force may have been removed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace

LISTS = "fuse_recommendations"
RESTORED = "restored_from"
"""The fact by which a roll back names the version that it published again."""


@dataclass(frozen=True)
class Live:
    """The lists of a day."""

    commit: Commit
    start: datetime
    """From when on in the day they were in force, UTC, naive."""
    end: datetime
    """Until when, not included."""


def live_lists(workspace: Workspace, day: date) -> Live | None:
    """The lists that were in force on a day (UTC), None where there were none or they are gone."""
    history = workspace.history(LISTS)
    return live_of(history, {commit.version: workspace.published(commit) for commit in history}, day)


def live_of(history: Sequence[Commit], published: Mapping[int, datetime], day: date) -> Live | None:
    """The same of versions, oldest first, and the moment of publication of each (UTC, naive)."""
    start = datetime.combine(day, time())
    end = start + timedelta(days=1)
    if any(moment < end for moment in published.values()):
        return _by_clock(history, published, start, end)
    commit = newest_of(history, start)
    return None if commit is None else Live(commit, start, end)


def newest_lists(workspace: Workspace, moment: datetime) -> Commit | None:
    """The newest lists that were made from events before a moment (UTC, naive), None where there are none or gone."""
    return newest_of(workspace.history(LISTS), moment)


def made_with(workspace: Workspace, day: date) -> bool:
    """Were the newest lists as of a day's end made with events of the day; where there are none, they were not."""
    start = datetime.combine(day, time())
    commit = newest_lists(workspace, start + timedelta(days=1))
    return commit is not None and commit.as_of is not None and datetime.fromisoformat(commit.as_of) > start


def newest_of(history: Sequence[Commit], moment: datetime) -> Commit | None:
    """The same of versions, oldest first; those that a roll back restored count as made when it stepped in."""
    found = [
        (told, place)
        for place, told in enumerate(_moments(history))
        if told is not None and told <= moment and _ignorant(history[place], moment)
    ]
    if not found:
        return None
    _, place = max(found)
    return history[place] if _followed(history, place) else None


def _by_clock(
    history: Sequence[Commit], published: Mapping[int, datetime], start: datetime, end: datetime
) -> Live | None:
    found: list[Live] = []
    for place, commit in enumerate(history):
        until = published[history[place + 1].version] if place + 1 < len(history) else end
        live = Live(commit, max(start, published[commit.version]), min(end, until))
        if live.start < live.end and _ignorant(commit, start) and _followed(history, place):
            found.append(live)
    return max(found, key=lambda live: (live.end - live.start, live.commit.version), default=None)


def _moments(history: Sequence[Commit]) -> Iterator[datetime | None]:
    """From when on each version counts, told after the fact; None where that is not known."""
    before: datetime | None = None
    for place, commit in enumerate(history):
        if RESTORED not in commit.facts:
            before = datetime.fromisoformat(commit.as_of) if commit.as_of else None
        elif place == 0 or history[place - 1].version != commit.version - 1:
            before = None  # what it stepped in for is gone
        yield before


def _ignorant(commit: Commit, start: datetime) -> bool:
    """Was it made from events before `start` alone."""
    return commit.as_of is not None and datetime.fromisoformat(commit.as_of) <= start


def _followed(history: Sequence[Commit], place: int) -> bool:
    """Is the version after it still there, or is it the newest: else others were in force that were removed."""
    return place + 1 == len(history) or history[place + 1].version == history[place].version + 1
