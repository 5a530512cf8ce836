"""How a history takes up live events: one definition for the store, the stream and the service."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from recsys_spark.online.events import BATCH_PREFIX
from recsys_spark.online.store import StoredEvent, UserState

KEPT_IDS = 1 << 14


def extended(state: UserState, events: Iterable[StoredEvent], as_of: float, max_history: int) -> UserState:
    """The state with the events in its history, those left out that it holds already; list and vectors stay.

    Held is an event whose id is in the history; and one before `as_of`, the batch's end, where a batch's event has the
    same item, type and second: a batch knows no event ids. The result is in the order of (event_time, event_id).
    """
    new = list({event.event_id: event for event in events}.values())
    if not new:
        return state
    known = {event.event_id for event in state.history}
    if any(event.event_time < as_of for event in new):
        batch = {_content(event) for event in state.history if event.event_id.startswith(BATCH_PREFIX)}
        new = [event for event in new if event.event_time >= as_of or _content(event) not in batch]
    new = [event for event in new if event.event_id not in known]
    if not new:
        return state
    history = sorted([*state.history, *new], key=lambda event: (event.event_time, event.event_id))
    cut = max(0, len(history) - max_history)
    return replace(state, history=tuple(history[cut:]), dropped=state.dropped + cut)


def batch_event_id(position: int) -> str:
    """The id of a batch's event by its place in the user's whole history: ids sort as places do."""
    return f"{BATCH_PREFIX}{position:09d}"


def batch_event_ids(start: int, stop: int) -> list[str]:
    """The ids of the places from `start` to before `stop`; those of most histories are written once and kept."""
    if stop <= KEPT_IDS:
        return _kept_ids()[start:stop]
    return [batch_event_id(position) for position in range(start, stop)]


@cache
def _kept_ids() -> list[str]:
    return [batch_event_id(position) for position in range(KEPT_IDS)]


def moment(state: UserState, as_of: float) -> float:
    """Epoch seconds, whole, at which the user's list is made: the batch's end or the newest event, the later one."""
    newest = state.history[-1].event_time if state.history else as_of
    return float(math.floor(max(as_of, newest)))


def _content(event: StoredEvent) -> tuple[int, str, str]:
    return math.floor(event.event_time), event.item_id, event.event_type
