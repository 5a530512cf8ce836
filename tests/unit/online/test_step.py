"""What a micro-batch changes: histories, lists, vectors, counts, and what is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_spark.config.online_learning import OnlineLearning
from recsys_spark.online import step
from recsys_spark.online.events import LiveEvent
from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.step import Learner, Step, process_batch
from recsys_spark.online.store import OnlineStore, StoredList
from recsys_spark.recommenders.histories import RawHistory
from tests.live_shop import AS_OF, ITEMS, TRENDING_HALF_LIFE, opened, shop

DAY = 86400.0
LEARNER = Learner(OnlineLearning(enabled=True, negatives=4, step_events=2), ("purchase",), 20)


@pytest.fixture
def place(tmp_path: Path) -> tuple[OnlineStore, LiveModel]:
    store, publication = shop(tmp_path)
    return store, LiveModel.load(publication)


def event(number: int, user: str, item: str, kind: str = "purchase", after: float = 60.0) -> LiveEvent:
    return LiveEvent(f"e{number:05d}", user, item, kind, AS_OF + after)


def done(store: OnlineStore, live: LiveModel | None, events: list[LiveEvent], number: int, **more: Any) -> Step:
    found = process_batch(store, live, events, number, **more)
    assert store.commit(found.commit)
    return found


def items(stored: StoredList | None) -> list[str]:
    assert stored is not None
    return [row.item_id for row in stored.rows]


def test_a_users_list_is_that_of_the_batchs_and_the_new_events_at_the_newest_ones_moment(place) -> None:
    store, live = place
    done(store, live, [event(1, "ann", "i07", after=2 * DAY)], 1)
    state = store.users(["ann"])["ann"]
    assert [each.item_id for each in state.history] == ["i00", "i01", "i07"]
    history = RawHistory(["i00", "i01", "i07"], ages_days=[4.0, 3.0, 0.0], weights=[1.0, 1.0, 1.0])
    [expected] = live.champion.recommend_histories([history], 12)
    assert state.list is not None
    assert state.list.source == "stream"
    assert not state.stale
    als = {row.item_id: row.components["als"] for row in expected}
    assert [row.components["als"] for row in state.list.rows] == pytest.approx(
        [als[item] for item in items(state.list)], abs=1e-6
    )


def test_an_event_counts_once_however_often_it_is_told(place) -> None:
    store, live = place
    assert done(store, live, [event(1, "ann", "i07"), event(1, "ann", "i08")], 1).new == 1
    again = done(store, live, [event(1, "ann", "i07"), event(2, "ann", "i09")], 2)
    assert again.new == 1
    assert [each.item_id for each in store.users(["ann"])["ann"].history] == ["i00", "i01", "i07", "i09"]
    assert dict(store.counts()).keys() == {"i07", "i09"}


PENDING = LiveEvent("e00001", "ann", "i08", "purchase", AS_OF + 60.1234564)
CLEANED = LiveEvent("e00001", "ann", "i07", "purchase", AS_OF + 60.123457)
"""Later than the pending one, by the rounding."""


def test_an_events_pending_version_is_not_in_the_history_that_it_is_learned_from(place, monkeypatch) -> None:
    store, live = place
    store.accept([PENDING])
    seen = []
    learn = step.learn
    monkeypatch.setattr(step, "learn", lambda *given: seen.extend(given[2]) or learn(*given))
    done(store, live, [CLEANED], 1, learner=LEARNER)
    [example] = seen
    assert [each.item_id for each in example.history] == ["i00", "i01"]


def test_a_list_is_made_of_what_cleaning_made_of_a_pending_event(place) -> None:
    store, live = place
    store.accept([PENDING])
    made = done(store, live, [CLEANED], 1).commit.users[0]
    state = store.users(["ann"])["ann"]
    assert [each.item_id for each in state.history] == ["i00", "i01", "i07"]
    [expected] = live.lists([state])
    assert made.list is not None
    assert [(row.item_id, row.components["als"]) for row in made.list.rows] == [
        (row.item_id, pytest.approx(row.components["als"], abs=1e-6)) for row in expected.rows
    ]
    assert not state.stale


def test_trending_counts_are_decayed_sums_of_weights(place) -> None:
    store, live = place
    first = done(store, live, [event(1, "ann", "i07", after=DAY), event(2, "bob", "i07", "click", after=DAY)], 1)
    later = DAY + TRENDING_HALF_LIFE * DAY
    second = done(store, first.live, [event(3, "bob", "i07", after=later)], 2)
    assert store.counts() == {"i07": (pytest.approx(1.25 * 0.5 + 1.0), AS_OF + later)}
    assert second.live is not None
    assert second.live.overlay.counts == store.counts()


def test_events_of_before_the_models_cut_are_no_trend(place) -> None:
    store, live = place
    done(store, live, [event(1, "ann", "i07", after=-DAY)], 1)
    assert store.counts() == {}
    assert [each.item_id for each in store.users(["ann"])["ann"].history] == ["i00", "i01", "i07"]


def test_what_is_bought_lately_rises_in_the_next_lists(place) -> None:
    store, live = place
    trend = [event(number, f"u{number}", "i02", after=10.0 + number) for number in range(200)]
    after = done(store, live, trend, 1).live
    quiet = process_batch(store, live, [event(900, "dan", "unknown")], 2)
    loud = process_batch(store, after, [event(900, "dan", "unknown")], 2)
    assert items(quiet.commit.users[0].list)[0] != "i02"
    assert items(loud.commit.users[0].list)[0] == "i02"


def test_without_a_publication_histories_grow_and_nobody_has_a_list(tmp_path: Path) -> None:
    store = opened(tmp_path / "empty.db")
    done(store, None, [event(1, "ann", "i07")], 1, refused=["x"])
    state = store.users(["ann"])["ann"]
    assert (len(state.history), state.list) == (1, None)


def test_however_events_are_cut_into_batches_histories_vectors_and_counts_are_the_same(tmp_path: Path) -> None:
    events = [event(n, ("ann", "bob", "dan")[n % 3], ITEMS[n * 5 % 12], after=float(n * 37 % 100)) for n in range(30)]
    outcomes = []
    for name, size in (("one", 30), ("many", 4)):
        store, publication = shop(tmp_path / name)
        live: LiveModel | None = LiveModel.load(publication)
        for number, start in enumerate(range(0, 30, size)):
            live = done(store, live, events[start : start + size], number + 1).live
        states = store.users(["ann", "bob", "dan"])
        outcomes.append((states, store.counts()))
    (whole, counts), (parts, other) = outcomes
    assert {user: state.history for user, state in whole.items()} == {user: s.history for user, s in parts.items()}
    assert len(whole["dan"].history) == 10
    for user, state in whole.items():
        assert list(state.vectors) == ["als"]
        np.testing.assert_array_equal(state.vectors["als"], parts[user].vectors["als"])
    assert {item: at for item, (_, at) in counts.items()} == {item: at for item, (_, at) in other.items()}
    assert [counts[item][0] for item in counts] == pytest.approx([other[item][0] for item in counts])


def test_learned_is_from_target_events_since_the_publication_and_from_what_batches_brought(place, monkeypatch) -> None:
    store, live = place
    seen = []
    monkeypatch.setattr(step, "learn", lambda model, overlay, examples, *rest: seen.extend(examples) or overlay)
    store.accept([event(50, "ann", "i11", after=5.0)])  # pending: no batch has brought it yet
    batch = [
        event(1, "ann", "i07", after=20.0),
        event(2, "ann", "i08", after=20.0),
        event(3, "ann", "i09", "click", after=10.0),
        event(4, "bob", "i10", after=-5.0),
    ]
    found = process_batch(store, live, batch, 1, LEARNER)
    [example] = seen
    assert example.items == ["i07", "i08"]
    assert [each.item_id for each in example.history] == ["i00", "i01", "i09"]
    assert found.commit.parameters is None


def test_parameters_go_to_the_store_and_the_next_batch_goes_on_from_them(place) -> None:
    store, live = place
    first = done(store, live, [event(1, "ann", "i07")], 1, learner=LEARNER)
    assert store.parameters()[0] == 1
    done(store, first.live, [event(2, "bob", "i08")], 2, learner=LEARNER)
    version, content = store.parameters()
    assert version == 2
    from recsys_spark.online.overlay import Overlay

    assert content is not None
    learned = Overlay.from_bytes(content, live.publication.model)
    assert (learned.batch, learned.codes.tolist()) == (2, [7, 8])
