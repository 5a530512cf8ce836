from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.events.rules.bucket_rows import PURCHASE, RETURN, SECOND, Bucket, combined, type_codes
from recsys_spark.events.rules.groups import Verdict, group_rules
from recsys_spark.events.types import EVENT_TYPES

VIEW = EVENT_TYPES.index("view")
DAY = 86_400
NAN = float("nan")


def bucket(*rows: tuple[Any, ...]) -> Bucket:
    """Rows of (user, item, type, seconds since day 0, quantity, days from event to arrival), the last two optional."""
    full = [(*row, *(1.0, 0)[len(row) - 4 :]) for row in rows]
    users, items, types, seconds, quantities, delays = (np.array(column) for column in zip(*full, strict=True))
    order = np.lexsort((seconds, users))
    days = (seconds[order] // DAY).astype(np.int32)
    return Bucket(
        users[order].astype(np.int64),
        items[order].astype(np.int64),
        types[order].astype(np.int64),
        np.round(seconds[order] * SECOND).astype(np.int64),
        days,
        days + delays[order].astype(np.int32),
        quantities[order].astype(np.float64),
        np.full(len(full), NAN),
    )


def verdict(rows: Bucket, **rules: Any) -> Verdict:
    return group_rules(rows, Cleaning.model_validate(rules))


def places(mask: NDArray[np.bool_]) -> list[int]:
    return [int(place) for place in np.flatnonzero(mask)]


def test_without_rules_nothing_happens() -> None:
    found = verdict(bucket((0, 0, VIEW, 0), (0, 0, VIEW, 0), (0, 0, PURCHASE, 1, -1.0)))
    assert not found.near_duplicates.any()
    assert found.reasons == {}
    assert found.quantity.tolist() == [1, 1, -1]


def test_a_row_every_second_keeps_rows_a_limit_apart() -> None:
    chain = [(0, 0, VIEW, second) for second in range(60)]
    found = verdict(bucket(*chain), near_duplicate_seconds=5)
    assert places(~found.near_duplicates) == list(range(0, 60, 5))


def test_near_duplicates_have_the_same_user_item_type_and_day() -> None:
    rows = bucket(
        (0, 0, VIEW, 100),
        (0, 1, VIEW, 100.5),
        (0, 0, PURCHASE, 101),
        (0, 0, VIEW, 101.9),  # the only one
        (0, 0, VIEW, 102),  # exactly the limit after the first
        (0, 0, VIEW, DAY - 1),
        (0, 0, VIEW, DAY),
        (1, 0, VIEW, DAY),
        (1, 0, PURCHASE, DAY, -1.0),  # a purchase taken back is not the purchase
        (1, 0, PURCHASE, DAY),
    )
    assert places(verdict(rows, near_duplicate_seconds=2).near_duplicates) == [3]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 2, st.sampled_from([VIEW, PURCHASE]), st.integers(0, 40)), min_size=1),
    st.integers(1, 9),
)
def test_near_duplicates_are_those_of_a_plain_loop(rows: list[tuple[int, int, int, int]], limit: int) -> None:
    spread = bucket(*[(user, item, type_, DAY - 20 + second) for user, item, type_, second in rows])
    kept: dict[tuple[int, ...], int] = {}
    expected = []
    for place in range(len(spread)):
        key = tuple(int(part[place]) for part in (spread.users, spread.items, spread.event_types, spread.days))
        copy = key in kept and spread.times[place] - kept[key] < limit * SECOND
        expected.append(copy)
        if not copy:
            kept[key] = int(spread.times[place])
    assert verdict(spread, near_duplicate_seconds=limit).near_duplicates.tolist() == expected


def irregular(user: int, count: int, start: int = 0) -> list[tuple[int, int, int, float]]:
    """Events of a person: gaps of one minute and of nine in turn, always the same three items."""
    times = start + np.cumsum(np.tile([60, 540], count))[:count]
    return [(user, place % 3, VIEW, float(time)) for place, time in enumerate(times)]


@pytest.mark.parametrize(
    ("limits", "robot"),
    [
        ({"events_an_hour": 12}, False),
        ({"events_an_hour": 11}, True),
        ({"distinct_items": 3}, False),
        ({"distinct_items": 2}, True),
        ({"regularity": 0.5, "min_events": 20}, False),  # the gaps' coefficient of variation is 240 / 300
        ({"regularity": 0.9, "min_events": 20}, True),
        ({"regularity": 0.9, "min_events": 21}, False),
    ],
)
def test_a_day_beyond_a_limit_is_a_robots(limits: dict[str, float], robot: bool) -> None:
    found = verdict(bucket(*irregular(0, 20), *irregular(0, 2, DAY), *irregular(1, 2)), robots=limits)
    assert places(found.reasons["robot"]) == (list(range(20)) if robot else [])


def test_a_clockwork_is_a_robot_and_a_day_without_clock_times_is_not() -> None:
    clock = [(0, place % 2, VIEW, 30.0 * place) for place in range(10)]
    midnight = [(1, place, VIEW, 0.0) for place in range(10)]
    found = verdict(bucket(*clock, *midnight), robots={"regularity": 0.1, "min_events": 10})
    assert places(found.reasons["robot"]) == list(range(10))


def test_a_page_that_fires_twice_makes_no_robot_of_a_person() -> None:
    twice = [(0, 0, VIEW, 600.0 * place + more) for place in range(6) for more in (0, 0.5)]
    assert places(verdict(bucket(*twice), robots={"events_an_hour": 6}).reasons["robot"]) == list(range(12))
    together = verdict(bucket(*twice), robots={"events_an_hour": 6}, near_duplicate_seconds=1)
    assert places(together.near_duplicates) == [1, 3, 5, 7, 9, 11]
    assert not together.reasons["robot"].any()


def test_returns_undo_the_latest_purchases_first() -> None:
    rows = bucket(
        (0, 0, PURCHASE, 1, 5.0),
        (0, 0, PURCHASE, 2, 2.0),
        (0, 1, PURCHASE, 3, 9.0),
        (0, 0, PURCHASE, 4, -3.0),  # 2 of the second, 1 of the first
        (0, 0, PURCHASE, 5),  # after the return
        (0, 2, RETURN, 6),  # of nothing
        (1, 0, RETURN, 7),
        (2, 0, PURCHASE, 8, NAN),
        (2, 0, RETURN, 9, NAN),
        (2, 0, RETURN, 10, NAN),
        (3, 0, PURCHASE, 11, -2.0),  # of one moment the purchase comes first
        (3, 0, PURCHASE, 11, 2.0),
        (4, 0, VIEW, 12, -1.0),  # a view is not returned
    )
    found = verdict(rows, returns="net")
    assert places(found.reasons["returned"]) == [1, 7, 11]
    assert places(found.reasons["return"]) == [3, 8, 10]
    assert places(found.reasons["unmatched_return"]) == [5, 6, 9]
    assert found.quantity[[0, 1, 2, 4]].tolist() == [4, 2, 9, 1]


def test_a_return_comes_in_time_or_undoes_nothing() -> None:
    rules = {"returns": "net", "lateness_days": 4, "prompt_days": 1}
    rows = bucket(
        (0, 0, PURCHASE, 0),
        (0, 0, RETURN, 3 * DAY, 1.0, 1),  # the last day on which it can
        (1, 0, PURCHASE, 0),
        (1, 0, RETURN, 4 * DAY),
        (2, 0, PURCHASE, 0),
        (2, 0, RETURN, 1 * DAY, 1.0, 2),  # landed too late to take part
        (3, 0, PURCHASE, 0, 1.0, 2),
        (3, 0, RETURN, 2 * DAY),
    )
    found = verdict(rows, **rules)
    assert places(found.reasons["returned"]) == [0]
    assert places(found.reasons["unmatched_return"]) == [3, 5, 7]


def test_the_purchases_of_robots_and_copies_are_not_undone() -> None:
    rows = bucket((0, 0, PURCHASE, 1), (0, 0, PURCHASE, 2), (0, 0, RETURN, 60))
    found = verdict(rows, returns="net", near_duplicate_seconds=5)
    assert places(found.near_duplicates) == [1]
    assert places(found.reasons["returned"]) == [0]
    robot = verdict(rows, returns="net", robots={"events_an_hour": 2})
    assert places(robot.reasons["robot"]) == [0, 1, 2]
    assert not robot.reasons["returned"].any()


EVENTS = st.tuples(
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([PURCHASE, PURCHASE, RETURN, VIEW]),
    st.integers(0, 12 * 24).map(lambda hours: hours * 3600),
    st.sampled_from([1.0, 2.0, 3.0, -1.0, -2.0, NAN]),
    st.integers(0, 3),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=60), st.integers(0, 3), st.booleans())
def test_the_verdict_on_a_day_needs_the_days_around_it_and_what_landed_in_time_alone(
    rows: list[tuple[Any, ...]], prompt_days: int, everything: bool
) -> None:
    lateness = 3
    rules: dict[str, Any] = {"returns": "net", "lateness_days": lateness, "prompt_days": prompt_days}
    if everything:
        rules |= {"near_duplicate_seconds": 3601, "robots": {"events_an_hour": 1, "distinct_items": 1}}
    whole = bucket(*rows)
    full = verdict(whole, **rules)
    for day in range(13):
        around = (np.abs(whole.days - day) <= lateness) & (whole.arrivals <= day + lateness)
        if not around.any():
            continue
        part = whole.where(around)
        alone = verdict(part, **rules)
        mine, of_day = whole.days[around] == day, (whole.days == day)
        assert of_day[around].sum() == of_day.sum()  # rows of the day itself all landed in time
        assert alone.near_duplicates[mine].tolist() == full.near_duplicates[of_day].tolist()
        np.testing.assert_array_equal(alone.quantity[mine], full.quantity[of_day])
        for reason, found in full.reasons.items():
            assert alone.reasons[reason][mine].tolist() == found[of_day].tolist(), reason


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=60))
def test_what_returns_undo_is_what_purchases_lose(rows: list[tuple[Any, ...]]) -> None:
    whole = bucket(*rows)
    found = verdict(whole, returns="net", lateness_days=3, prompt_days=3 if len(rows) % 2 else 0)
    size = np.where(np.isnan(whole.quantity), 1.0, np.abs(whole.quantity))
    bought = (whole.event_types == PURCHASE) & ~whole.returns
    lost = np.where(found.reasons["returned"], size, size - np.where(np.isnan(found.quantity), 1.0, found.quantity))
    assert not (found.reasons["returned"] & ~bought).any()
    assert (lost[bought] >= 0).all()
    assert lost[bought].sum() <= size[found.reasons["return"]].sum()
    assert ((found.reasons["return"] ^ found.reasons["unmatched_return"]) == whole.returns).all()


def test_types_are_coded_by_the_house_and_returns_apart() -> None:
    assert type_codes(["view", "return", "gift", None]).tolist() == [VIEW, RETURN, 0, 0]


def test_combined_codes_tell_rows_apart_however_large_the_values() -> None:
    large = np.array([0, 2**40, 2**40, 0])
    codes = combined(large, np.array([2**40, 0, 0, 0]), np.array([1, -1, -1, 1]))
    assert codes[1] == codes[2]
    assert len(set(codes.tolist())) == 3


def test_a_bucket_of_no_rows_has_a_verdict() -> None:
    empty = Bucket(*[getattr(bucket((0, 0, VIEW, 0)), field.name)[:0] for field in dataclasses.fields(Bucket)])
    everything = {"returns": "net", "near_duplicate_seconds": 1, "robots": {"events_an_hour": 1, "regularity": 1}}
    assert len(verdict(empty, **everything).near_duplicates) == 0
