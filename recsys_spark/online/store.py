"""The online store: the publication that serves, and of each active user the history, the list and the vectors.

What differs from a plain key-value store, and what every store here promises:

* **Generations.** `publish` loads a publication beside the one that serves and switches in one step; readers see the
  old one whole or the new one whole. What belongs to a publication is never read or written after it.
* **Live events stand apart** from a batch's histories, by event id, and outlive publications. A history is read as the
  batch's events and the live ones that the batch does not hold (`history.extended`), in the order of
  (event_time, event_id), cut to the newest `max_history`.
* **Pending and committed.** `accept` (the service) makes an event pending: at once part of the history. `commit` (the
  stream) makes it committed. Under one event id there is one event, whoever brings it first, however often.
* **Commits are atomic** and happen once: events, lists, vectors, counts, parameters and the batch's id, or nothing.
* **What is learned belongs to a model.** Counts and parameters last while publications are of the same `model`; a
  publication of another one starts without.
* **Time to live.** `expire(now)` drops a user whose last event (by its arrival, not its own time) and whose publication
  are more than `ttl_days` ago; of others the live events that came so long ago and are older than the batch.

Where this differs from what was first agreed: the users of a BatchCommit are `UserUpdate`s with the *new* events alone
(the store merges them), `StoredEvent` is a NamedTuple, `Publication` has `content`, `event_weights` and `manifest`,
`UserState` has `dropped` and `user_index`, `StoredList` has `kind`, `BatchCommit` has `stream`, and `committed(ids)`
tells which events a batch of the stream has already brought.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recsys_spark.online.events import LiveEvent

Vector = npt.NDArray[np.float32]
KEPT_BATCHES = 10_000
"""Ids of committed batches that are kept of a stream; all that are so much older than its newest count as committed."""


@dataclass(frozen=True)
class Publication:
    """A batch's lists and the model that made them."""

    number: int
    """1 for a store's first one; each is the one before plus one."""
    model: str
    """The model's content id, as published rows name it (`model_version`)."""
    model_path: str
    """Directory of the FusedModel."""
    as_of: float
    """Epoch seconds: the batch holds the events before it."""
    k: int
    """Length of its lists."""
    repeats: str
    """allow or drop."""
    made_at: float
    """Epoch seconds at which it was loaded, by the clock."""
    content: str = ""
    """What it was made from: a publication of the same content is not made again."""
    event_weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of an event by its type; what is not named weighs 0."""
    manifest: str = ""
    """sha256 of the manifest in `model_path`, which is checked when the model is loaded; empty: not checked."""


class StoredEvent(NamedTuple):
    """An event of a history."""

    event_id: str
    """The live event's; a batch's events are named by their place in the whole history, after BATCH_PREFIX."""
    item_id: str
    event_type: str
    weight: float
    event_time: float
    """Epoch seconds; those of a batch are whole."""

    @classmethod
    def of(cls, event: LiveEvent, weights: Mapping[str, float]) -> StoredEvent:
        """The live event, with the weight of its type."""
        weight = weights.get(event.event_type, 0.0)
        return cls(event.event_id, event.item_id, event.event_type, weight, event.event_time)


@dataclass(frozen=True, slots=True)
class ListRow:
    """One row of a list."""

    rank: int
    item_id: str
    score: float
    reason: str
    components: dict[str, float]


@dataclass(frozen=True)
class StoredList:
    """A list, and what it was made from."""

    rows: tuple[ListRow, ...]
    model: str
    """Content id of the model."""
    publication: int
    """Number of the publication that it belongs to."""
    parameters: int = 0
    """Version of the online parameters; 0 for none."""
    events: int = 0
    """`UserState.events` of the history that it was made from."""
    made_at: float = 0.0
    """Epoch seconds."""
    source: Literal["batch", "stream"] = "batch"
    kind: Literal["personal", "segment", "trending", "popular"] = "personal"
    """Whom it is for: this history, or all whose history says nothing."""


@dataclass(frozen=True)
class UserState:
    """What the store knows of a user."""

    user_id: str
    history: tuple[StoredEvent, ...] = ()
    """Oldest first: in the order of (event_time, event_id)."""
    list: StoredList | None = None
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    """User vectors [D] by recommender."""
    dropped: int = 0
    """Events that are older than the history's, which is cut to `max_history`."""
    user_index: int = 0
    """The user's index in the batch's tables, which rules by attribute and tables of users ask for; 0: none."""

    @property
    def events(self) -> int:
        """Events that are known of the user, those that were cut off with them."""
        return self.dropped + len(self.history)

    @property
    def stale(self) -> bool:
        """Is there no list, or does it not know of all events."""
        return self.list is None or self.list.events != self.events


@dataclass(frozen=True)
class UserUpdate:
    """What a batch of the stream brings for one user."""

    user_id: str
    events: tuple[StoredEvent, ...] = ()
    """The new events alone. Their weights are not kept: the weight is that of the type, by the publication."""
    list: StoredList | None = None
    """The new list; None keeps the one that is there."""
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    """The new vectors; they replace the old ones where `list` is given."""


@dataclass(frozen=True)
class BatchCommit:
    """A micro-batch of the stream, to be written as a whole."""

    batch_id: int
    publication: int
    """Number of the publication that its lists were made for."""
    users: Sequence[UserUpdate] = ()
    counts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """New (decayed count, epoch seconds at which it holds) by item; other items keep theirs."""
    parameters: bytes | None = None
    """New online parameters; None keeps those that are there."""
    accepted: Sequence[str] = ()
    """Ids of all events that the batch has dealt with, those that it refused too: none of them is pending after it."""
    stream: str = ""
    """Which stream the batch id is of: a stream that starts anew counts from 0 again."""

    def checked_users(self) -> Sequence[UserUpdate]:
        """The users. Raises ValueError where a list was made for another publication than the batch."""
        for update in self.users:
            if update.list is not None and update.list.publication != self.publication:
                raise ValueError(f"the list of {update.user_id!r} is not of publication {self.publication}")
        return self.users


class StoreError(RuntimeError):
    """The store cannot be reached, or is not what it should be. Never tells a password."""


class OnlineStore(abc.ABC):
    """One process commits and one publishes at a time; any number read and accept, from any thread.

    Every method raises StoreError where the store cannot be reached or stays locked.
    """

    max_history: int
    """Events that a history is cut to."""
    ttl_days: float
    """Days that a user is kept after the last sign of life."""

    @abc.abstractmethod
    def publication(self) -> Publication | None:
        """The publication that serves, None before the first."""

    @abc.abstractmethod
    def publish(self, publication: Publication, users: Iterable[UserState]) -> None:
        """Load the next publication and let it serve: `users` in a stream, written in steps of bounded size.

        Its number must be that of the one that serves plus one, else StoreError and nothing changes. A user may come in
        two parts, one with the history and one with the list. A list of source `batch` is taken to be made from all of
        the user's events in the batch, whatever its `events` say. What a killed `publish` left is swept by the next
        one; until the switch no reader sees any of it. Live events stay.
        """

    @abc.abstractmethod
    def users(self, ids: Sequence[str]) -> dict[str, UserState]:
        """The states of those that the store knows, all of one publication; pending events are in the histories.

        A state is at least as new as the last commit before the call.
        """

    @abc.abstractmethod
    def commit(self, batch: BatchCommit) -> bool:
        """Write a micro-batch in one atomic step; False, and no change, where its id is committed.

        Events that are there already are not added again. Made for an older publication it keeps its events and drops
        its lists and vectors, and where the model is another one its counts and parameters too.
        """

    @abc.abstractmethod
    def committed(self, event_ids: Sequence[str]) -> set[str]:
        """Those of the ids that a committed batch has brought or refused: the stream does not take them again."""

    @abc.abstractmethod
    def accept(self, events: Sequence[LiveEvent]) -> list[bool]:
        """Make events pending, all in one step; False for each whose id is known. At once visible in `users()`."""

    @abc.abstractmethod
    def counts(self) -> dict[str, tuple[float, float]]:
        """The trending counts by item: (decayed count, epoch seconds at which it holds)."""

    @abc.abstractmethod
    def parameters(self) -> tuple[int, bytes | None]:
        """Version and content of the online parameters: (0, None) before a batch has brought some for this model.

        The version grows by one with each commit that brings some, over all publications.
        """

    @abc.abstractmethod
    def batches(self, stream: str = "") -> tuple[int, ...]:
        """Ids of the stream's committed batches, ascending: the newest KEPT_BATCHES."""

    @abc.abstractmethod
    def expire(self, now: float) -> int:
        """Drop users and live events whose time is over at `now` (epoch seconds); how many users went."""

    @abc.abstractmethod
    def ping(self) -> None:
        """Raises StoreError where the store does not answer."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of connections; the store is not used afterwards."""
