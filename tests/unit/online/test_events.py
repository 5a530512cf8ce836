"""Live events: what is taken, what is refused and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.online.events import LiveEvent, parse_event

NOW = 1_700_000_000.0
FIELDS: dict[str, Any] = {"event_id": "e1", "user_id": "anna", "item_id": "ale", "event_type": "purchase"}


def test_what_is_not_told_has_a_default() -> None:
    assert parse_event(FIELDS, NOW) == LiveEvent("e1", "anna", "ale", "purchase", NOW, 1.0, None, None)


def test_everything_may_be_told() -> None:
    told = {**FIELDS, "event_time": NOW - 0.25, "quantity": 2, "price": 0.5, "order_id": "o7"}
    assert parse_event(told, NOW) == LiveEvent("e1", "anna", "ale", "purchase", NOW - 0.25, 2.0, 0.5, "o7")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-11-14T22:13:19Z", NOW - 1),
        ("2023-11-14T22:13:19", NOW - 1),
        ("2023-11-14T23:13:19.500+01:00", NOW - 0.5),
    ],
)
def test_times_may_be_text_in_utc_where_no_zone_is_told(text: str, seconds: float) -> None:
    assert parse_event({**FIELDS, "event_time": text}, NOW).event_time == seconds


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"event_id": None}, "event_id must be a text"),
        ({"event_id": "  "}, "event_id must be a text"),
        ({"event_id": "#000000001"}, "event_id must not begin with '#'"),
        ({"user_id": 7}, "user_id must be a text"),
        ({"item_id": "x" * 201}, "item_id has 201 characters; at most 200"),
        ({"item_id": "a\nb"}, "item_id holds a character"),
        ({"item_id": "\ud800"}, "item_id holds a character"),
        ({"event_type": "hover"}, "event_type must be one of other, view"),
        ({"event_type": ["view"]}, "event_type must be one of"),
        ({"event_time": "yesterday"}, "event_time must be epoch seconds or a time like"),
        ({"event_time": True}, "event_time must be a number"),
        ({"event_time": float("nan")}, "event_time must be a finite number"),
        ({"event_time": 10**400}, "event_time is too large"),
        ({"event_time": -1}, "event_time lies before 1970"),
        ({"event_time": NOW + 301}, "event_time lies more than 300 s in the future"),
        ({"quantity": -1}, "quantity must lie between 0 and 1e+09"),
        ({"quantity": "2"}, "quantity must be a number"),
        ({"price": 1e10}, "price must lie between"),
        ({"order_id": ""}, "order_id must be a text"),
        ({"colour": "red"}, "unknown field 'colour'; known are event_id, user_id"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=r"^event: ") as told:
        parse_event({**FIELDS, **changes}, NOW)
    assert reason in str(told.value)
    assert "\n" not in str(told.value)


IDS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20).filter(
    lambda text: text[0] != "#"
)
AMOUNTS = st.floats(0, 1e9)


@given(
    st.builds(
        LiveEvent,
        IDS,
        IDS,
        IDS,
        st.sampled_from(EVENT_TYPES),
        st.floats(0, NOW),
        AMOUNTS,
        st.none() | AMOUNTS,
        st.none() | IDS,
    )
)
def test_an_event_comes_back_from_its_json_to_the_last_digit(event: LiveEvent) -> None:
    told = {name: value for name, value in asdict(event).items() if value is not None}
    assert parse_event(json.loads(json.dumps(told)), NOW) == event
