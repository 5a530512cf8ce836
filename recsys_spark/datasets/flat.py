"""Histories of a batch of users as flat arrays, on which everything here is computed at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_spark.datasets.split import Cuts

Ints = npt.NDArray[np.int64]
EVENTS_A_CHUNK = 400_000
"""Events that a task works on at once."""


@dataclass(frozen=True)
class FlatHistories:
    """U users with N events, oldest first."""

    users: Ints
    """[U] user_index."""
    offsets: Ints
    """[U+1]: user u owns events offsets[u] to offsets[u+1]."""
    items: Ints
    """[N] global item_index, or code after `coded`."""
    event_types: Ints
    """[N] codes into events.types.EVENT_TYPES."""
    weights: npt.NDArray[np.float32]
    """[N]."""
    times: Ints
    """[N] epoch seconds."""
    folds: Ints
    """[N]."""

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> FlatHistories:
        """From a batch of the histories table."""
        lists = {name: batch.column(name) for name in ("items", "event_types", "weights", "times", "folds")}
        lengths = np.diff(lists["items"].offsets.to_numpy())
        flat = {name: column.flatten().to_numpy() for name, column in lists.items()}
        return cls(
            users=batch.column("user_index").to_numpy().astype(np.int64),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            items=flat["items"].astype(np.int64),
            event_types=flat["event_types"].astype(np.int64),
            weights=flat["weights"].astype(np.float32),
            times=flat["times"].astype(np.int64),
            folds=flat["folds"].astype(np.int64),
        )

    @staticmethod
    def chunks(batches: Iterable[pa.RecordBatch], limit: int = EVENTS_A_CHUNK) -> Iterator[pa.RecordBatch]:
        """Batches of the histories table cut into ones of at most `limit` events, or of one user.

        A batch of Arrow has a fixed number of users, whatever they did.
        """
        for batch in batches:
            for start, stop in parts(batch.column("items").offsets.to_numpy(), limit):
                yield batch.slice(start, stop - start)

    @property
    def lengths(self) -> Ints:
        """[U] events of each user."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> Ints:
        """[N] the row (0..U-1) of the user of each event."""
        return np.repeat(np.arange(len(self.users)), self.lengths)

    def keep(self, mask: npt.NDArray[np.bool_]) -> FlatHistories:
        """The same users with the events of the mask alone."""
        if mask.all():
            return self
        before = np.concatenate([[0], np.cumsum(mask)])
        return FlatHistories(
            users=self.users,
            offsets=before[self.offsets],
            items=self.items[mask],
            event_types=self.event_types[mask],
            weights=self.weights[mask],
            times=self.times[mask],
            folds=self.folds[mask],
        )

    def in_folds(self, folds: Sequence[int]) -> FlatHistories:
        """The events of these folds."""
        return self.keep(np.isin(self.folds, folds))

    def of_types(self, event_types: Sequence[int]) -> FlatHistories:
        """The events of these types."""
        return self.keep(np.isin(self.event_types, event_types))

    def refolded(self, cuts: Cuts) -> FlatHistories:
        """The same events in the folds of other cuts, without those that are in none."""
        folds = cuts.folds(self.times, self.offsets)
        return replace(self, folds=folds.astype(np.int64)).keep(self.times < cuts.as_of)

    def coded(self, codes: npt.NDArray[np.int32]) -> FlatHistories:
        """Events whose item has a code, `items` as codes; `codes` is the code of each item_index, -1 for none."""
        coded = np.where(self.items < len(codes), codes[np.minimum(self.items, len(codes) - 1)], -1)
        return replace(self, items=coded.astype(np.int64)).keep(coded >= 0)


def parts(offsets: npt.NDArray[np.integer], limit: int) -> Iterator[tuple[int, int]]:
    """Cut sequences that end at `offsets` [S+1] into runs (start, stop) of at most `limit` entries, or of one."""
    ends = offsets.astype(np.int64)  # an int32 sum might overflow
    start = 0
    while start < len(ends) - 1:
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] + limit, side="right")) - 1)
        yield start, stop
        start = stop


def hashed(seed: int, *parts: Ints) -> Ints:
    """63-bit hash of each row of the parts (splitmix64 finaliser), the same on every machine."""
    mixed = np.full(len(parts[0]), seed, dtype=np.uint64)
    for part in parts:
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + part.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(1)).astype(np.int64)
