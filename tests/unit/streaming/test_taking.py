"""Micro-batches are taken in once: by whichever run, however often Spark hands them over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.store import OnlineStore
from recsys_spark.streaming.taking import Rules, Taken, Taker
from recsys_spark.tables.batches import BatchLog
from tests.live_shop import AS_OF, judged_rows, line, opened, published, shop

RULES = Rules(lateness=3600.0, ahead=60.0, learner=None, half_life_days=7.0)


@pytest.fixture
def place(tmp_path: Path) -> tuple[OnlineStore, BatchLog]:
    return shop(tmp_path)[0], BatchLog(tmp_path / "batches")


def taker(store: OnlineStore, batches: BatchLog, **more: Any) -> Taker:
    return Taker(store, batches, LiveModel.load, RULES, clock=lambda: AS_OF + 1000.0, **more)


def take(own: Taker, batch_id: int, *lines: dict[str, Any], stream: str = "s") -> Taken:
    return own.take(stream, batch_id, lambda: judged_rows(lines))


def held(store: OnlineStore, user: str) -> list[str]:
    return [event.item_id for event in store.users([user])[user].history]


def test_a_batch_reaches_the_log_and_the_store_and_tells_how_it_went(place) -> None:
    own = taker(*place)
    taken = take(own, 0, line(1, "ann", "i07"), line(2, "dan", "i08"), line(1, "ann", "i07"))
    assert (taken.number, taken.accepted, taken.duplicates, taken.users, taken.delay) == (1, 2, 1, 2, 1000.0)
    assert "2 events of 2 users, 1 duplicates, 0 quarantined (0 late)" in str(taken)
    assert held(place[0], "dan") == ["i08"]
    assert place[1].read(1).table("live_events").num_rows == 2


def test_a_batch_that_comes_again_changes_nothing_and_is_not_even_read(place) -> None:
    take(taker(*place), 0, line(1, "ann", "i07"))
    before = place[0].users(["ann"])["ann"]

    def unread() -> Any:
        raise AssertionError("read again")

    again = taker(*place).take("s", 0, unread)
    assert (again.again, again.number, again.accepted) == (True, 1, 1)
    after = place[0].users(["ann"])["ann"]
    assert (after.history, after.list) == (before.history, before.list)


def test_killed_between_log_and_store_the_log_decides(place, monkeypatch) -> None:
    store, batches = place
    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", lambda batch: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            take(taker(store, batches), 0, line(1, "ann", "i07"))
    assert held(store, "ann") == ["i00", "i01"]
    own = taker(store, batches)
    assert own.recover() == 1
    assert held(store, "ann") == ["i00", "i01", "i07"]
    assert take(own, 0, line(9, "ann", "i09")).again
    assert held(store, "ann") == ["i00", "i01", "i07"]


def test_a_stream_that_begins_anew_finds_its_events_known_and_numbers_go_on(place) -> None:
    take(taker(*place), 0, line(1, "ann", "i07"))
    own = taker(*place)
    taken = take(own, 0, line(1, "ann", "i07"), line(2, "ann", "i08"), stream="another")
    assert (taken.number, taken.accepted, taken.duplicates, taken.again) == (2, 1, 1, False)
    assert take(own, 1, line(3, "ann", "i09"), stream="another").number == 3
    assert take(taker(*place), 1, stream="another").again
    assert take(taker(*place), 1, line(4, "ann", "i10")).number == 4  # the first stream goes on


def test_a_store_that_was_made_anew_gets_everything_that_the_log_has(place, tmp_path: Path) -> None:
    own = taker(*place)
    for number in range(3):
        take(own, number, line(number, "dan", f"i0{number}", after=number))
    fresh = opened(tmp_path / "fresh.db")
    own = taker(fresh, place[1])
    assert own.recover() == 3
    assert held(fresh, "dan") == ["i00", "i01", "i02"]
    assert take(own, 3, line(9, "dan", "i09", after=9)).number == 4


def test_the_watermark_goes_on_after_a_restart(place) -> None:
    take(taker(*place), 0, line(1, "ann", "i07", after=900.0))
    taken = take(taker(*place), 1, line(2, "ann", "i08", after=900.0 - 3601.0), line(3, "ann", "i08", after=-2700.0))
    assert (taken.late, taken.accepted) == (1, 1)


def test_what_cleaning_refused_is_no_longer_part_of_the_history(place) -> None:
    store, batches = place
    from recsys_spark.online.events import LiveEvent

    store.accept([LiveEvent("e00001", "ann", "i07", "purchase", AS_OF + 1)])
    assert held(store, "ann") == ["i00", "i01", "i07"]
    taker(store, batches).take("s", 0, lambda: judged_rows([line(1, "ann", "i07")], ["blocked_item"]))
    assert held(store, "ann") == ["i00", "i01"]


def test_a_new_publication_is_taken_up_between_two_batches(place) -> None:
    store, batches = place
    own = taker(store, batches)
    take(own, 0, line(1, "ann", "i07"))
    first = store.publication()
    assert first is not None
    store.publish(published(Path(first.model_path), 2, "model-2", AS_OF + 100.0), [])
    take(own, 1, line(2, "ann", "i08", after=200.0))
    stored = store.users(["ann"])["ann"].list
    assert stored is not None
    assert (stored.publication, stored.model) == (2, "model-2")


def test_users_of_whom_nothing_was_heard_go(place, monkeypatch) -> None:
    store, batches = place
    times = iter([AS_OF, *[AS_OF + 4000.0] * 20])
    told = []
    monkeypatch.setattr(store, "expire", lambda now: told.append(now) or 0)
    own = Taker(store, batches, LiveModel.load, RULES, clock=lambda: next(times))
    take(own, 0, line(1, "ann", "i07"))
    take(own, 1, line(2, "ann", "i07"))
    assert told == [AS_OF + 4000.0]
