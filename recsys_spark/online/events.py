"""Live events: what a shop tells of its visitors, checked at the door."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES

BATCH_PREFIX = "#"
"""What the ids of a batch's events begin with in the store; no live event's id may."""
FIELDS = ("event_id", "user_id", "item_id", "event_type", "event_time", "quantity", "price", "order_id")


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """An event of one user with one item. Histories are in the order of (event_time, event_id)."""

    event_id: str
    """Names the event among those of all users; what comes twice under one id is one event."""
    user_id: str
    item_id: str
    event_type: str
    """One of EVENT_TYPES."""
    event_time: float
    """Epoch seconds."""
    quantity: float = 1.0
    price: float | None = None
    order_id: str | None = None


@dataclass(frozen=True)
class EventLimits:
    """What an event from outside may be."""

    id_chars: int = 200
    """Characters of an id."""
    future_seconds: float = 300.0
    """How far ahead of the clock an event's time may be."""
    amount: float = 1e9
    """Largest quantity and price."""


def parse_event(fields: Mapping[str, Any], now: float, limits: EventLimits = EventLimits()) -> LiveEvent:
    """The event that a decoded JSON object tells; `event_time` is epoch seconds or ISO 8601, `now` where not given.

    `quantity` is 1 where not given. Raises UserError, one line that names the field.
    """
    unknown = sorted(str(name)[:40] for name in fields if name not in FIELDS)
    if unknown:
        raise UserError(f"event: unknown field {unknown[0]!r}; known are {', '.join(FIELDS)}")
    event_id = _id(fields, "event_id", limits)
    if event_id.startswith(BATCH_PREFIX):
        raise UserError(f"event: event_id must not begin with {BATCH_PREFIX!r}")
    event_type = fields.get("event_type")
    if event_type not in EVENT_TYPES:
        raise UserError(f"event: event_type must be one of {', '.join(EVENT_TYPES)}")
    price = fields.get("price")
    return LiveEvent(
        event_id=event_id,
        user_id=_id(fields, "user_id", limits),
        item_id=_id(fields, "item_id", limits),
        event_type=str(event_type),
        event_time=_time(fields.get("event_time"), now, limits),
        quantity=_amount("quantity", fields.get("quantity", 1.0), limits),
        price=None if price is None else _amount("price", price, limits),
        order_id=None if fields.get("order_id") is None else _id(fields, "order_id", limits),
    )


def _id(fields: Mapping[str, Any], name: str, limits: EventLimits) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"event: {name} must be a text that is not empty")
    if len(value) > limits.id_chars:
        raise UserError(f"event: {name} has {len(value)} characters; at most {limits.id_chars} are taken")
    if not value.isprintable():  # control characters and lone surrogates, which no UTF-8 can hold
        raise UserError(f"event: {name} holds a character that cannot be printed")
    return value


def _time(value: object, now: float, limits: EventLimits) -> float:
    if value is None:
        return now
    seconds = _seconds_of_text(value) if isinstance(value, str) else _number("event_time", value)
    if seconds < 0:
        raise UserError("event: event_time lies before 1970")
    if seconds > now + limits.future_seconds:
        raise UserError(f"event: event_time lies more than {limits.future_seconds:g} s in the future")
    return seconds


def _seconds_of_text(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UserError("event: event_time must be epoch seconds or a time like 2017-12-31T23:59:59Z") from None


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"event: {name} must be a number")
    try:
        number = float(value)
    except OverflowError:
        raise UserError(f"event: {name} is too large") from None
    if not math.isfinite(number):
        raise UserError(f"event: {name} must be a finite number")
    return number


def _amount(name: str, value: object, limits: EventLimits) -> float:
    number = _number(name, value)
    if not 0 <= number <= limits.amount:
        raise UserError(f"event: {name} must lie between 0 and {limits.amount:g}")
    return number
