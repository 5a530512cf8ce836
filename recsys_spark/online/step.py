"""What a micro-batch of live events changes: the pure part of the stream, without Spark, files and clocks.

A batch's outcome is a function of the store before it, the model, the events and the batch's number. Histories, and the
lists and vectors made from them, do not depend on how events were cut into batches; learned parameters do, and so they
are equal to a replay of the batches in their own boundaries (`learning.learn`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from recsys_spark.config.online_learning import OnlineLearning
from recsys_spark.online.events import BATCH_PREFIX, LiveEvent
from recsys_spark.online.history import extended
from recsys_spark.online.learning import Example, learn
from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.overlay import Overlay
from recsys_spark.online.store import (
    BatchCommit,
    OnlineStore,
    Publication,
    StoredEvent,
    StoredList,
    UserState,
    UserUpdate,
    Vector,
)
from recsys_spark.online.trending import counted
from recsys_spark.recommenders.counts import Counts

Made = tuple[list[StoredList], list[Mapping[str, Vector]]]
"""Of each state its list and its vectors."""
Maker = Callable[[LiveModel, Sequence[UserState]], Made]


@dataclass(frozen=True)
class Learner:
    """How the stream learns online."""

    settings: OnlineLearning
    target_events: Collection[str]
    """Event types that are learned from."""
    seed: int


@dataclass(frozen=True)
class Step:
    """What a micro-batch changes."""

    commit: BatchCommit
    """What the store is to write."""
    live: LiveModel | None
    """The model with what holds once that is written."""
    new: int
    """Events that were not in the store before."""


def make_here(live: LiveModel, states: Sequence[UserState]) -> Made:
    """Lists and vectors by this process."""
    return live.lists(states), list(live.vectors(states))


def process_batch(
    store: OnlineStore,
    live: LiveModel | None,
    events: Sequence[LiveEvent],
    batch_id: int,
    learner: Learner | None = None,
    *,
    half_life_days: float = 7.0,
    refused: Sequence[str] = (),
    make: Maker = make_here,
) -> Step:
    """What the cleaned `events` of a batch change; nothing is written.

    `live` is None before the first publication: then histories alone grow. Events that a committed batch has brought
    are left out. `half_life_days` is that of the trending counts, where the model does not say. `refused` are ids of
    events that cleaning did not let pass.
    """
    named = {event.event_id: event for event in reversed(events)}
    known = store.committed(list(named))
    new = sorted(
        (event for name, event in named.items() if name not in known),
        key=lambda event: (event.event_time, event.event_id),
    )
    dealt_with = sorted({*named, *refused})
    weights = live.publication.event_weights if live else {}
    by_user: dict[str, list[StoredEvent]] = {}
    for event in new:
        by_user.setdefault(event.user_id, []).append(StoredEvent.of(event, weights))
    if live is None or not by_user:
        users = [UserUpdate(user, tuple(some)) for user, some in by_user.items()]
        return Step(BatchCommit(batch_id, _number(live), users, accepted=dealt_with), live, len(new))
    before = store.users(list(by_user))
    as_of = live.publication.as_of
    states = [
        extended(_without(before.get(user, UserState(user)), some), some, as_of, store.max_history)
        for user, some in by_user.items()
    ]
    counts = _counts(live, new, half_life_days)
    learned = None if learner is None else _learned(store, live, states, by_user, batch_id, learner)
    overlay = live.overlay if learned is None else learned
    after = live.with_overlay(overlay.with_counts({**live.overlay.counts, **counts}))
    lists, vectors = make(after, states)
    users = [
        UserUpdate(state.user_id, tuple(by_user[state.user_id]), made, found)
        for state, made, found in zip(states, lists, vectors, strict=True)
    ]
    parameters = None if learned is None or learned.version == live.overlay.version else learned.to_bytes()
    commit = BatchCommit(batch_id, live.publication.number, users, counts, parameters, dealt_with)
    return Step(commit, after, len(new))


def live_of_store(store: OnlineStore, publication: Publication, load: Callable[[Publication], LiveModel]) -> LiveModel:
    """The publication's model with what the store holds for it: learned parameters and counts."""
    live = load(publication)
    return live.with_overlay(Overlay.of_store(publication.model, store.parameters()[1], store.counts()))


def _without(state: UserState, events: Sequence[StoredEvent]) -> UserState:
    """The state without its pending versions of the events: what cleaning made of them counts, its times rounded."""
    ids = {event.event_id for event in events}
    return replace(state, history=tuple(event for event in state.history if event.event_id not in ids))


def _number(live: LiveModel | None) -> int:
    return live.publication.number if live else 0


def _counts(live: LiveModel, events: Iterable[LiveEvent], half_life_days: float) -> dict[str, tuple[float, float]]:
    """The trending counts that change: of events since the model's cut, by the weight of their type."""
    since, weights = live.publication.as_of, live.publication.event_weights
    for recommender in live.model.recommenders.values():
        if isinstance(recommender, Counts) and recommender.reason == "trending":
            half_life_days = recommender.half_life_days
            since = recommender.trend.at if recommender.trend is not None else since
    told = ((event, weights.get(event.event_type, 0.0)) for event in events)
    weighed = [
        (event.item_id, weight, event.event_time) for event, weight in told if weight > 0 and event.event_time >= since
    ]
    return counted(live.overlay.counts, weighed, half_life_days)


def _learned(
    store: OnlineStore,
    live: LiveModel,
    states: Sequence[UserState],
    by_user: Mapping[str, Sequence[StoredEvent]],
    batch_id: int,
    learner: Learner,
) -> Overlay:
    """The overlay after the batch's target events since the publication, in the order of time and user."""
    as_of = live.publication.as_of
    wanted: list[tuple[float, UserState, list[str]]] = []
    for state in states:
        moments: dict[float, list[str]] = {}
        for event in by_user[state.user_id]:
            if event.event_type in learner.target_events and event.event_time >= as_of:
                moments.setdefault(event.event_time, []).append(event.item_id)
        wanted += [(time, state, items) for time, items in moments.items()]
    wanted.sort(key=lambda each: (each[0], each[1].user_id))
    pending = _pending(store, {state.user_id: state for _, state, _ in wanted}.values(), by_user)
    examples = [
        Example(
            items=items,
            history=[event for event in state.history if event.event_time < time and event.event_id not in pending],
            time=time,
        )
        for time, state, items in wanted
    ]
    return learn(live.model, live.overlay, examples, batch_id, learner.settings, learner.seed)


def _pending(store: OnlineStore, states: Iterable[UserState], by_user: Mapping[str, Sequence[StoredEvent]]) -> set[str]:
    """Ids in the histories that no batch up to this one has brought: a replay of the batches would not know them."""
    own = {event.event_id for some in by_user.values() for event in some}
    named = [event.event_id for state in states for event in state.history]
    live = [name for name in named if not name.startswith(BATCH_PREFIX) and name not in own]
    return set(live) - store.committed(live)
