"""How a history takes up live events."""

from __future__ import annotations

import random

from recsys_spark.online.history import extended, moment
from recsys_spark.online.store import UserState
from tests.unit.online.states import AS_OF, DAY, event, past, stored


def test_the_order_in_which_events_come_and_their_portions_do_not_matter() -> None:
    events = [stored(event(f"e{n % 7}", at=float(n % 5))) for n in range(20)]
    events = list({one.event_id: one for one in events}.values())
    whole = extended(UserState("anna", past("ale")), events, AS_OF, 100)
    draw = random.Random(3)
    for _ in range(20):
        draw.shuffle(events)
        state = UserState("anna", past("ale"))
        for start in range(0, len(events), 3):
            state = extended(state, [*events[start : start + 3], events[0]], AS_OF, 100)
        assert state == whole


def test_only_a_batch_holds_events_by_what_they_are() -> None:
    live = UserState("anna", (stored(event("e1", "bread", at=-DAY)),))
    state = extended(live, [stored(event("e2", "bread", at=-DAY))], AS_OF, 100)
    assert [one.event_id for one in state.history] == ["e1", "e2"]


def test_events_from_the_end_of_the_batch_on_are_never_taken_for_the_batchs() -> None:
    state = UserState("anna", past("ale", "bread"))
    again = stored(event("e1", "bread", kind="purchase", at=-DAY))
    assert extended(state, [again], AS_OF, 100) is state
    assert extended(state, [again], AS_OF - DAY, 100).events == 3


def test_events_older_than_a_cut_history_are_counted_and_not_kept() -> None:
    state = UserState("anna", past("ale", "bread", "cheese")[1:], dropped=1)
    older = extended(state, [stored(event("e1", at=-9 * DAY))], AS_OF, 2)
    assert (older.history, older.dropped, older.events) == (state.history, 2, 4)


def test_a_list_is_made_at_the_end_of_the_batch_or_at_a_later_event() -> None:
    assert moment(UserState("new"), AS_OF) == AS_OF
    assert moment(UserState("anna", past("ale")), AS_OF) == AS_OF
    assert moment(UserState("anna", (stored(event("e1", at=90.75)),)), AS_OF) == AS_OF + 90
