"""What callers ask, as the rest of the house knows it: live events, and states of users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recsys_spark.errors import UserError
from recsys_spark.online.events import EventLimits, LiveEvent, parse_event
from recsys_spark.online.store import Publication, StoredEvent, UserState
from recsys_spark.serving.errors import RefusedError
from recsys_spark.serving.messages import Events, Session

LIMITS = EventLimits()
VIEW = "view"
"""What the items of a context count as."""


def live_events(events: Events, now: float, most: int) -> list[LiveEvent]:
    """The events of a request. Raises RefusedError (422) where there are too many, or one is not valid."""
    if len(events.events) > most:
        raise RefusedError(422, f"events: {len(events.events)} of them; at most {most} in one request")
    parsed = []
    for place, event in enumerate(events.events):
        try:
            parsed.append(parse_event(event.model_dump(exclude_none=True), now, LIMITS))
        except UserError as error:
            raise RefusedError(422, f"events.{place}: {str(error).removeprefix('event: ')}") from None
    return parsed


def session_state(session: Session, publication: Publication, now: float, most: int) -> UserState:
    """A visitor's state; events without a time are a second after the one before. Raises RefusedError (422)."""
    if len(session.events) > most:
        raise RefusedError(422, f"events: {len(session.events)} of them; at most {most} in one request")
    history: list[StoredEvent] = []
    time = now - len(session.events) - 1
    for place, event in enumerate(session.events):
        named = {"event_id": f"session {place:06d}", "user_id": "visitor", "event_time": min(time + 1, now)}
        try:
            parsed = parse_event({**named, **event.model_dump(exclude_none=True)}, now, LIMITS)
        except UserError as error:
            raise RefusedError(422, f"events.{place}: {str(error).removeprefix('event: ')}") from None
        time = parsed.event_time
        history.append(StoredEvent.of(parsed, publication.event_weights))
    history.sort(key=lambda event: (event.event_time, event.event_id))
    return UserState("", tuple(history))


def with_context(state: UserState, items: Sequence[str], publication: Publication) -> UserState:
    """The state as if the user had just looked at these items, one after the other."""
    newest = state.history[-1].event_time if state.history else publication.as_of
    time, weight = max(newest, publication.as_of), publication.event_weights.get(VIEW, 0.0)
    views = [StoredEvent(f"~context {place:06d}", item, VIEW, weight, time) for place, item in enumerate(items)]
    return replace(state, history=(*state.history, *views), list=None)
