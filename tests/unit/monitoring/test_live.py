"""Which lists were live on a day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.monitoring.live import LISTS, Live, live_lists, live_of, newest_of
from recsys_spark.tables.pointer import Commit, publish
from recsys_spark.tables.workspace import Workspace

LATER = datetime(2026, 1, 1)
"""A replay: long after every day here."""


def midnight(day: int) -> datetime:
    return datetime(2024, 3, day)


def lists(version: int, day: int, restored: int | None = None) -> Commit:
    """Lists made from the events before that day of March."""
    facts = {} if restored is None else {"restored_from": restored}
    return Commit(LISTS, version, "key", "run", "/nowhere", {}, facts=facts, as_of=midnight(day).isoformat())


def version(live: Live | None) -> int | None:
    return None if live is None else live.commit.version


def replayed(*history: Commit, day: int) -> int | None:
    return version(live_of(history, {commit.version: LATER for commit in history}, date(2024, 3, day)))


@pytest.mark.parametrize(("day", "live"), [(4, None), (5, 1), (6, 2), (7, 2), (8, 3), (20, 3)])
def test_in_a_replay_the_newest_lists_that_know_nothing_of_the_day_are_live(day: int, live: int | None) -> None:
    assert replayed(lists(1, 5), lists(2, 6), lists(3, 8), day=day) == live


def test_lists_made_on_an_earlier_date_later_on_take_part_by_their_date() -> None:
    history = (lists(1, 30), lists(2, 5), lists(3, 6))
    assert [replayed(*history, day=day) for day in (4, 5, 6, 29, 30)] == [None, 2, 3, 3, 1]


def test_lists_that_were_restored_are_live_from_when_they_stepped_in_and_not_from_their_own_date() -> None:
    history = (lists(1, 5), lists(2, 6), lists(3, 7), lists(4, 5, restored=1), lists(5, 9))
    assert [replayed(*history, day=day) for day in (5, 6, 7, 8, 9)] == [1, 2, 4, 4, 5]


def test_nothing_is_said_where_lists_between_were_removed() -> None:
    assert replayed(lists(1, 5), lists(7, 20), day=10) is None
    assert replayed(lists(1, 5), lists(7, 20), day=21) == 7
    assert replayed(lists(4, 5, restored=1), lists(5, 9), day=6) is None  # what it stepped in for is gone


def test_the_clock_decides_where_lists_were_published_by_then() -> None:
    history = (lists(1, 5), lists(2, 6), lists(3, 7))
    published = {1: datetime(2024, 3, 5, 4), 2: datetime(2024, 3, 6, 4), 3: datetime(2024, 3, 8, 9)}
    of = {day: live_of(history, published, date(2024, 3, day)) for day in (4, 5, 6, 7, 8)}
    assert {day: version(live) for day, live in of.items()} == {4: None, 5: 1, 6: 2, 7: 2, 8: 3}
    assert (of[6].start, of[6].end) == (datetime(2024, 3, 6, 4), midnight(7))  # type: ignore[union-attr]
    assert (of[7].start, of[7].end) == (midnight(7), midnight(8))  # type: ignore[union-attr]


def test_after_a_roll_back_the_lists_that_were_longest_in_force_are_the_days() -> None:
    history = (lists(1, 5), lists(2, 6), lists(3, 5, restored=1))
    for hour, expected in ((9, 3), (20, 2)):
        published = {1: datetime(2024, 3, 5, 4), 2: datetime(2024, 3, 6, 4), 3: datetime(2024, 3, 6, hour)}
        assert version(live_of(history, published, date(2024, 3, 6))) == expected
        assert version(live_of(history, published, date(2024, 3, 5))) == 1


def test_lists_that_know_of_the_day_are_not_its_lists_although_they_were_in_force_longest() -> None:
    history = (lists(1, 5), lists(2, 7))  # made on the 6th, with --date of that day
    published = {1: datetime(2024, 3, 5, 4), 2: datetime(2024, 3, 6, 6)}
    live = live_of(history, published, date(2024, 3, 6))
    assert live is not None
    assert (live.commit.version, live.start, live.end) == (1, midnight(6), datetime(2024, 3, 6, 6))


def test_the_clock_says_nothing_of_lists_whose_successor_was_removed() -> None:
    published = {1: datetime(2024, 3, 1), 9: datetime(2024, 3, 20, 4)}
    history = (lists(1, 1), lists(9, 20))
    assert live_of(history, published, date(2024, 3, 10)) is None
    assert version(live_of(history, published, date(2024, 3, 21))) == 9


def test_the_newest_lists_by_a_moment_know_nothing_after_it() -> None:
    history = (lists(1, 5), lists(2, 6), lists(3, 7), lists(4, 5, restored=1))
    newest = [newest_of(history, midnight(day)) for day in (4, 5, 6, 7)]
    assert [commit and commit.version for commit in newest] == [None, 1, 2, 4]


@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans(), st.integers(0, 30 * 24)), min_size=1, max_size=8),
    st.integers(1, 20),
    st.booleans(),
)
def test_live_lists_never_know_of_the_day_nor_came_after_it(
    drawn: list[tuple[int, bool, int]], day: int, replay: bool
) -> None:
    history = [lists(place, made, restored=1 if again else None) for place, (made, again, _) in enumerate(drawn, 1)]
    hours = sorted(hour for _, _, hour in drawn)
    clock = {n: LATER if replay else midnight(1) + timedelta(hours=hour) for n, hour in enumerate(hours, 1)}
    live = live_of(history, clock, date(2024, 3, day))
    if live is None:
        return
    assert live.commit.as_of is not None
    assert datetime.fromisoformat(live.commit.as_of) <= midnight(day) <= live.start < live.end <= midnight(day + 1)
    if any(moment < midnight(day + 1) for moment in clock.values()):
        assert clock[live.commit.version] <= live.start
        following = clock.get(live.commit.version + 1)
        assert following is None or following >= live.end


def test_publication_is_told_by_the_pointer_in_a_workspace(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    now = datetime.now(UTC).replace(tzinfo=None)
    told = {"tables": {}, "inputs": {}, "metrics": {}, "facts": {}, "key": "key", "run_id": "run"}
    run = workspace.new_run_directory(LISTS, "run")
    commit = publish(workspace.stage_directory(LISTS), LISTS, run, as_of="2024-03-05T00:00:00", **told)  # type: ignore[arg-type]
    assert abs((workspace.published(commit) - now).total_seconds()) < 60
    assert version(live_lists(workspace, date(2024, 3, 5))) == 1
    assert live_lists(workspace, date(2024, 3, 4)) is None
