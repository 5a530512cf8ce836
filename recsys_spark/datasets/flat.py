"""Histories of a batch of users as flat arrays, on which everything here is computed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FlatHistories:
    """U users with N events, oldest first."""

    users: Ints
    """[U] user_index."""
    offsets: Ints
    """[U+1]: user u owns events offsets[u] to offsets[u+1]."""
    items: Ints
    """[N] global item_index, or code after `in_vocabulary`."""
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
        counts = np.bincount(self.rows[mask], minlength=len(self.users))
        return FlatHistories(
            users=self.users,
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=self.items[mask],
            event_types=self.event_types[mask],
            weights=self.weights[mask],
            times=self.times[mask],
            folds=self.folds[mask],
        )

    def in_folds(self, folds: Sequence[int]) -> FlatHistories:
        """The events of these folds."""
        return self.keep(np.isin(self.folds, folds))

    def in_vocabulary(self, vocabulary: Path) -> FlatHistories:
        """Events whose item is in the vocabulary, `items` as its codes."""
        table = codes(str(vocabulary))
        coded = np.where(self.items < len(table), table[np.minimum(self.items, len(table) - 1)], -1)
        known = coded >= 0
        kept = self.keep(known)
        return FlatHistories(**{**kept.__dict__, "items": coded[known].astype(np.int64)})


@lru_cache(maxsize=8)
def codes(vocabulary: str) -> npt.NDArray[np.int32]:
    """Code of each item_index, -1 for none: item-sized, held once by each Python worker (paths are never reused)."""
    table = pq.read_table(vocabulary, columns=["code", "item_index"])
    index = table["item_index"].to_numpy()
    lookup = np.full(int(index.max(initial=0)) + 1, -1, dtype=np.int32)
    lookup[index] = table["code"].to_numpy()
    return lookup


def hashed(seed: int, *parts: Ints) -> Ints:
    """63-bit hash of each row of the parts (splitmix64 finaliser), the same on every machine."""
    mixed = np.full(len(parts[0]), seed, dtype=np.uint64)
    for part in parts:
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + part.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(1)).astype(np.int64)
