"""Publications and users for the tests of the online store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys_spark.online.events import LiveEvent
from recsys_spark.online.history import batch_event_id
from recsys_spark.online.store import ListRow, Publication, StoredEvent, StoredList, UserState

DAY = 86400.0
AS_OF = 1_000 * DAY
WEIGHTS = {"purchase": 1.0, "view": 0.25}


def publication(number: int = 1, model: str = "m1", as_of: float = AS_OF, made_at: float = AS_OF) -> Publication:
    return Publication(number, model, "/models/m1", as_of, 3, "allow", made_at, f"content {number}", WEIGHTS, "abc")


def past(*items: str, dropped: int = 0) -> tuple[StoredEvent, ...]:
    """A batch's history: purchases a day apart, the last a day before AS_OF."""
    first = AS_OF - DAY * len(items)
    events = [(batch_event_id(dropped + n), item, "purchase", 1.0, first + DAY * n) for n, item in enumerate(items)]
    return tuple(StoredEvent(*event) for event in events)


def a_list(number: int = 1, item: str = "ale", events: int = 0, source: str = "batch", model: str = "m1") -> StoredList:
    rows = (
        ListRow(1, item, 0.1 + 0.2, "because", {"gru": 0.1, "als": 0.2}),
        ListRow(2, "bread", -1.5, 'says "so"', {"gru": -1.5}),
    )
    return StoredList(rows, model, number, 0, events, 5.0, source)  # type: ignore[arg-type]


def a_user(
    user_id: str = "anna", items: Sequence[str] = ("ale", "bread"), number: int = 1, index: int = 7
) -> UserState:
    vectors = {"gru": np.array([0.5, -0.25], dtype=np.float32)}
    return UserState(user_id, past(*items), a_list(number, events=len(items)), vectors, 0, index)


def event(event_id: str, item: str = "cheese", user: str = "anna", kind: str = "view", at: float = 60.0) -> LiveEvent:
    """A live event, `at` seconds after AS_OF."""
    return LiveEvent(event_id, user, item, kind, AS_OF + at)


def stored(live: LiveEvent) -> StoredEvent:
    return StoredEvent.of(live, WEIGHTS)
