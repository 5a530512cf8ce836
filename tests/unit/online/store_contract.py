"""What every online store promises: one suite for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from recsys_spark.online.store import KEPT_BATCHES, BatchCommit, OnlineStore, StoreError, UserState, UserUpdate
from tests.unit.online.states import AS_OF, DAY, a_list, a_user, event, past, publication, stored


class Clock:
    """Epoch seconds, set by hand."""

    def __init__(self) -> None:
        self.now = AS_OF

    def __call__(self) -> float:
        return self.now


Opener = Callable[..., OnlineStore]
"""Opens the test's store, once more if asked again."""


class StoreContract:
    """Subclasses give the fixture `opened`."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, opened: Opener, clock: Clock) -> OnlineStore:
        return opened(clock=clock)

    @pytest.fixture
    def published(self, store: OnlineStore) -> OnlineStore:
        store.publish(publication(), [a_user(), a_user("ben", ["dates"])])
        return store

    def test_a_new_store_holds_nothing(self, store: OnlineStore) -> None:
        assert store.publication() is None
        assert store.users(["anna"]) == {}
        assert (store.counts(), store.parameters(), store.batches()) == ({}, (0, None), ())
        store.ping()

    def test_what_was_published_comes_back_as_it_was(self, published: OnlineStore) -> None:
        assert published.publication() == publication()
        found = published.users(["anna", "nobody", "anna"])
        assert list(found) == ["anna"]
        assert replace(found["anna"], vectors={}) == replace(a_user(), vectors={})
        assert found["anna"].vectors["gru"].dtype == np.float32
        assert found["anna"].vectors["gru"].tolist() == [0.5, -0.25]
        assert not found["anna"].stale

    def test_another_connection_sees_the_same(self, published: OnlineStore, opened: Opener) -> None:
        assert opened().users(["ben"])["ben"].history == past("dates")

    def test_a_user_may_come_in_two_parts(self, store: OnlineStore) -> None:
        history = UserState("anna", past("ale", "bread"), user_index=7)
        store.publish(publication(), iter([history, UserState("anna", list=a_list(events=99))]))
        found = store.users(["anna"])["anna"]
        assert (found.history, found.user_index) == (past("ale", "bread"), 7)
        assert found.list == a_list(events=2), "the batch made its list from all that it has of the user"

    @pytest.mark.parametrize("name", ["a:b", "ü'\"%_\\", "1 OR 1=1", "日本", "x" * 200])
    def test_any_text_is_an_id(self, published: OnlineStore, name: str) -> None:
        assert published.accept([event(name, name, name)]) == [True]
        assert published.users([name])[name].history == (stored(event(name, name, name)),)
        assert published.commit(BatchCommit(0, 1, [UserUpdate(name, (), a_list(events=1, source="stream"))]))
        assert published.users([name])[name].list == a_list(events=1, source="stream")

    def test_an_accepted_event_is_in_the_history_at_once_and_once(self, published: OnlineStore) -> None:
        first = event("e2", at=50.0)
        assert published.accept([first, event("e1", at=50.0), event("e3", at=40.5)]) == [True, True, True]
        assert published.accept([replace(first, item_id="other"), event("e4", at=60.0)]) == [False, True]
        found = published.users(["anna"])["anna"]
        assert [one.event_id for one in found.history[2:]] == ["e3", "e1", "e2", "e4"], "by time, then id"
        assert found.history[4] == stored(first)
        assert (found.events, found.stale) == (6, True)
        assert found.list == a_list(events=2)

    def test_a_user_of_live_events_alone_is_known(self, published: OnlineStore) -> None:
        published.accept([event("e1", user="new")])
        assert published.users(["new"]) == {"new": UserState("new", (stored(event("e1")),))}

    def test_events_that_the_batch_holds_are_not_doubled(self, published: OnlineStore) -> None:
        same = event("e1", "bread", kind="purchase", at=-DAY + 0.7)  # in the second of the batch's event
        others = [
            event("e2", "bread", kind="view", at=-DAY),
            event("e3", "bread", kind="purchase", at=-DAY + 1.0),
            event("e4", "dates", kind="purchase", at=-DAY),
        ]
        published.accept([same, *others])
        history = published.users(["anna"])["anna"].history
        assert [one.event_id for one in history[2:]] == ["e2", "e4", "e3"]

    def test_histories_are_cut_to_the_newest_and_tell_how_many_went(self, opened: Opener) -> None:
        store = opened(max_history=3)
        store.publish(publication(), [a_user(items=["ale", "bread", "cheese", "dates"])])
        found = store.users(["anna"])["anna"]
        assert found.history == past("ale", "bread", "cheese", "dates")[1:]
        assert (found.dropped, found.events, found.stale) == (1, 4, False)
        store.accept([event("e1")])
        found = store.users(["anna"])["anna"]
        assert [one.item_id for one in found.history] == ["cheese", "dates", "cheese"]
        assert (found.dropped, found.events, found.stale) == (2, 5, True)

    def test_a_commit_brings_everything_or_was_there(self, published: OnlineStore) -> None:
        made = a_list(item="cheese", events=3, source="stream")
        vectors = {"als": np.ones(3, dtype=np.float32)}
        update = UserUpdate("anna", (stored(event("e1")),), made, vectors)
        batch = BatchCommit(0, 1, [update], {"cheese": (1.5, 7.0)}, b"learned", ["e1"])
        assert published.commit(batch)
        again = replace(batch, counts={"cheese": (9.0, 9.0)}, parameters=b"other", users=[UserUpdate("ben", (), made)])
        assert not published.commit(again)
        found = published.users(["anna", "ben"])
        assert (found["anna"].history[2:], found["anna"].list) == ((stored(event("e1")),), made)
        assert {name: vector.tolist() for name, vector in found["anna"].vectors.items()} == {"als": [1.0, 1.0, 1.0]}
        assert (found["anna"].stale, found["anna"].user_index) == (False, 7)
        assert found["ben"].list == a_list(events=1)
        assert published.counts() == {"cheese": (1.5, 7.0)}
        assert published.parameters() == (1, b"learned")
        assert published.batches() == (0,)

    def test_a_commit_leaves_what_it_does_not_name(self, published: OnlineStore) -> None:
        published.commit(BatchCommit(0, 1, counts={"ale": (1.0, 1.0), "bread": (2.0, 1.0)}, parameters=b"one"))
        vectors = {"als": np.ones(1, dtype=np.float32)}
        update = UserUpdate("anna", (stored(event("e1")),), None, vectors)
        published.commit(BatchCommit(1, 1, [update], {"ale": (3.0, 2.0)}))
        assert published.counts() == {"ale": (3.0, 2.0), "bread": (2.0, 1.0)}
        assert published.parameters() == (1, b"one")
        found = published.users(["anna"])["anna"]
        assert (found.list, found.stale) == (a_list(events=2), True)
        assert list(found.vectors) == ["als"]
        published.commit(BatchCommit(2, 1, [UserUpdate("anna", (), a_list(events=3, source="stream"))]))
        assert published.users(["anna"])["anna"].vectors == {}, "they were those of the list before"

    def test_a_micro_batch_may_be_of_any_size(self, published: OnlineStore) -> None:
        ids = [f"e{n}" for n in range(1200)]
        listed = a_list(events=1, source="stream")
        made = [UserUpdate(f"u{n}", (stored(event(one)),), listed) for n, one in enumerate(ids)]
        counts = {f"item {n}": (1.0, float(n)) for n in range(1700)}
        refused = [f"r{n}" for n in range(3100)]
        published.accept([event(one, user=f"u{n}") for n, one in enumerate(refused)])
        assert published.commit(BatchCommit(0, 1, made, counts, b"learned", [*ids, *refused]))
        found = published.users(["u0", "u999", "u1000", "u1199", "u3099"])
        assert [(state.events, state.stale) for state in found.values()] == [(1, False)] * 4
        assert published.counts() == counts
        assert published.committed([*ids, *refused]) == {*ids, *refused}
        assert published.parameters() == (1, b"learned")

    def test_streams_count_their_batches_apart(self, published: OnlineStore) -> None:
        assert published.commit(BatchCommit(0, 1, stream="a"))
        assert published.commit(BatchCommit(0, 1, stream="b"))
        assert published.commit(BatchCommit(1, 1, stream="a"))
        assert (published.batches("a"), published.batches("b"), published.batches()) == ((0, 1), (0,), ())

    def test_batches_far_behind_the_newest_count_as_committed(self, published: OnlineStore) -> None:
        assert published.commit(BatchCommit(3, 1))
        assert published.commit(BatchCommit(KEPT_BATCHES + 5, 1))
        assert published.batches() == (KEPT_BATCHES + 5,)
        assert not published.commit(BatchCommit(3, 1))
        assert not published.commit(BatchCommit(5, 1))
        assert published.commit(BatchCommit(6, 1))

    def test_what_the_stream_brought_is_pending_no_more(self, published: OnlineStore) -> None:
        published.accept([event("e1"), event("e2"), event("e3")])
        assert published.committed(["e1", "e2", "e3", "e4"]) == set()
        cleaned = replace(event("e1"), item_id="CHEESE")
        published.commit(BatchCommit(0, 1, [UserUpdate("anna", (stored(cleaned),))], accepted=["e1", "e2"]))
        assert published.committed(["e1", "e2", "e3", "e4"]) == {"e1", "e2"}
        history = published.users(["anna"])["anna"].history
        assert [(one.event_id, one.item_id) for one in history[2:]] == [("e1", "CHEESE"), ("e3", "cheese")]
        assert published.accept([event("e1"), event("e2"), event("e3"), event("e4")]) == [False, False, False, True]

    def test_an_event_comes_once_whoever_brings_it(self, published: OnlineStore) -> None:
        update = UserUpdate("anna", (stored(event("e1")),))
        published.commit(BatchCommit(0, 1, [update]))
        published.commit(BatchCommit(1, 1, [update, UserUpdate("ben", (stored(event("e1")),))]))
        assert published.accept([event("e1", user="ben")]) == [False]
        found = published.users(["anna", "ben"])
        assert (found["anna"].events, found["ben"].events) == (3, 1)

    def test_live_events_outlive_a_publication_until_the_batch_holds_them(self, published: OnlineStore) -> None:
        inside, between, after = (event(f"e{n}", kind="purchase", at=at) for n, at in enumerate((10.5, 20.0, 2 * DAY)))
        published.accept([after])
        published.commit(BatchCommit(0, 1, [UserUpdate("anna", (stored(inside), stored(between)))]))
        as_of = AS_OF + DAY
        history = (*past("ale", "bread"), replace_event(inside, len(past("ale", "bread"))))
        published.publish(publication(2, as_of=as_of), [UserState("anna", history, a_list(2))])
        found = published.users(["anna", "ben"])
        assert list(found) == ["anna"], "ben is not in the new batch and has no live events"
        assert found["anna"].history == (*history, stored(between), stored(after))
        assert (found["anna"].list, found["anna"].stale) == (a_list(2, events=3), True)
        assert published.committed(["e0"]) == {"e0"}, "so that nobody brings it again"

    def test_a_list_of_an_older_publication_is_not_written(self, published: OnlineStore) -> None:
        published.publish(publication(2), [replace(a_user(number=2), vectors={})])
        late = UserUpdate("anna", (stored(event("e1")),), a_list(1, "old"), {"als": np.ones(1, dtype=np.float32)})
        newcomer = UserUpdate("new", (stored(event("e2")),), a_list(1, "old"))
        batch = BatchCommit(0, 1, [late, newcomer], {"ale": (1.0, 1.0)}, b"learned", ["e1"])
        assert published.commit(batch)
        found = published.users(["anna", "new"])
        assert (found["anna"].list, found["anna"].vectors) == (a_list(2, events=2), {})
        assert found["anna"].history[2:] == (stored(event("e1")),)
        assert (found["new"].list, found["new"].events) == (None, 1)
        assert (published.counts(), published.parameters()) == ({"ale": (1.0, 1.0)}, (1, b"learned")), "the model's"

    def test_a_list_of_an_older_publication_is_not_read(self, published: OnlineStore) -> None:
        published.commit(BatchCommit(0, 1, [UserUpdate("new", (stored(event("e1")),), a_list(1, source="stream"))]))
        published.publish(publication(2), [])
        assert published.users(["anna", "new"]) == {"new": UserState("new", (stored(event("e1")),))}

    def test_what_was_learned_goes_with_its_model(self, published: OnlineStore) -> None:
        published.commit(BatchCommit(0, 1, counts={"ale": (1.0, 1.0)}, parameters=b"one"))
        published.publish(publication(2), [])
        assert (published.counts(), published.parameters()) == ({"ale": (1.0, 1.0)}, (1, b"one"))
        published.publish(publication(3, model="m2"), [])
        assert (published.counts(), published.parameters()) == ({}, (0, None))
        assert published.commit(BatchCommit(1, 2, counts={"ale": (5.0, 1.0)}, parameters=b"late"))
        assert (published.counts(), published.parameters()) == ({}, (0, None))
        published.commit(BatchCommit(2, 3, counts={"ale": (2.0, 2.0)}, parameters=b"two"))
        assert (published.counts(), published.parameters()) == ({"ale": (2.0, 2.0)}, (2, b"two"))

    @pytest.mark.parametrize("number", [1, 3])
    def test_a_publication_follows_the_one_before(self, published: OnlineStore, number: int) -> None:
        with pytest.raises(StoreError, match="does not follow 1"):
            published.publish(publication(number), [])
        assert published.publication() == publication()
        assert set(published.users(["anna", "ben"])) == {"anna", "ben"}

    def test_a_publication_that_breaks_off_leaves_the_one_before_and_nothing_else(self, published: OnlineStore) -> None:
        def broken() -> Iterator[UserState]:
            for n in range(1200):
                yield a_user(f"u{n}", number=2)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            published.publish(publication(2), broken())
        assert published.publication() == publication()
        assert set(published.users(["anna", "u1"])) == {"anna"}
        published.publish(publication(2), [a_user("carl", number=2)])
        assert set(published.users(["anna", "u1", "u700", "carl"])) == {"carl"}

    def test_of_two_publications_at_once_one_is_whole_and_the_other_is_told(
        self, published: OnlineStore, opened: Opener
    ) -> None:
        def overtaken() -> Iterator[UserState]:
            yield a_user("mine", number=2)
            opened().publish(publication(2, "m2"), [a_user("theirs", number=2)])
            yield a_user("mine too", number=2)

        with pytest.raises(StoreError, match="another publication"):
            published.publish(publication(2), overtaken())
        assert published.publication() == publication(2, "m2")
        assert set(published.users(["mine", "mine too", "theirs"])) == {"theirs"}

    def test_lists_of_another_publication_are_refused(self, published: OnlineStore) -> None:
        with pytest.raises(ValueError, match="not of publication 2"):
            published.publish(publication(2), [a_user(number=1)])
        with pytest.raises(ValueError, match="not of publication 1"):
            published.commit(BatchCommit(0, 1, [UserUpdate("anna", (), a_list(2))]))
        assert published.batches() == ()

    def test_users_go_when_event_and_publication_are_long_ago(self, published: OnlineStore, clock: Clock) -> None:
        clock.now = AS_OF + DAY
        published.accept([event("e1"), event("e2", user="new")])
        clock.now = AS_OF + 20 * DAY
        published.commit(BatchCommit(0, 1, [UserUpdate("late", (stored(event("e3")),), a_list(1))]))
        assert published.expire(AS_OF + 29 * DAY) == 0
        assert published.expire(AS_OF + 30.5 * DAY) == 1, "of the batch's users, ben had no event since"
        assert set(published.users(["anna", "ben", "new", "late"])) == {"anna", "new", "late"}
        assert published.expire(AS_OF + 32 * DAY) == 2
        assert set(published.users(["anna", "ben", "new", "late"])) == {"late"}
        assert published.accept([event("e1")]) == [True], "its id is forgotten with its user"

    def test_many_go_and_many_stay(self, store: OnlineStore, clock: Clock) -> None:
        names = [f"u{n:04d}" for n in range(1400)]
        clock.now = AS_OF + DAY
        store.publish(publication(1, made_at=AS_OF + 40 * DAY), [a_user(name) for name in names[::2]])
        store.commit(BatchCommit(0, 1, [UserUpdate(name, (stored(event(f"e {name}")),)) for name in names]))
        assert store.expire(AS_OF + 40 * DAY) == 700
        assert sorted(store.users(names)) == names[::2]

    def test_a_new_publication_keeps_its_users_and_forgets_old_events_that_it_could_hold(
        self, published: OnlineStore, clock: Clock
    ) -> None:
        published.commit(
            BatchCommit(0, 1, [UserUpdate("anna", (stored(event("old")), stored(event("later", at=40 * DAY))))])
        )
        published.accept([event("pending")])
        published.commit(BatchCommit(1, 1, [UserUpdate("new", (stored(event("theirs", user="new")),))]))
        clock.now = AS_OF + 35 * DAY
        published.publish(publication(2, as_of=AS_OF + 34 * DAY, made_at=clock.now), [a_user(number=2)])
        assert published.expire(clock.now) == 1, "who has no part in it, and no event since"
        found = published.users(["anna", "new"])
        assert [one.event_id for one in found["anna"].history[2:]] == ["pending", "later"]
        assert list(found) == ["anna"]

    def test_readers_see_one_publication_whole(self, store: OnlineStore, opened: Opener) -> None:
        names = [f"u{n}" for n in range(40)]
        users = lambda number: (a_user(name, ["ale"] * number, number) for name in names)  # noqa: E731
        store.publish(publication(1), users(1))
        stop, torn = threading.Event(), []

        def read() -> None:
            own = opened()
            while not stop.is_set():
                found = own.users(names)
                seen = {(state.events, state.list.publication if state.list else None) for state in found.values()}
                if len(found) != len(names) or len(seen) != 1 or any(one != other for one, other in seen):
                    torn.append(seen)
            own.close()

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(2, 8):
            store.publish(publication(number), users(number))
        stop.set()
        for reader in readers:
            reader.join()
        assert torn == []

    def test_of_many_who_bring_an_event_one_is_first(self, published: OnlineStore) -> None:
        told: list[list[bool]] = []
        batch = [event(f"e{n}") for n in range(5)]
        threads = [threading.Thread(target=lambda: told.append(published.accept(batch))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [sum(column) for column in zip(*told, strict=True)] == [1] * 5
        assert published.users(["anna"])["anna"].events == 7


def replace_event(live, position):  # type: ignore[no-untyped-def]
    """The live event as a later batch holds it: without its id, in whole seconds."""
    from recsys_spark.online.history import batch_event_id

    return stored(live)._replace(event_id=batch_event_id(position), event_time=float(int(live.event_time)))
