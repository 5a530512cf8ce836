"""From stored or raw histories to a UserBatch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.vocabulary import Vocabulary

SECONDS_A_DAY = 86400.0


@dataclass(frozen=True)
class RawHistory:
    """A history as a caller gives it, oldest event first."""

    item_ids: Sequence[str]
    event_types: Sequence[str] | None = None
    """`purchase` throughout where not given."""
    ages_days: Sequence[float] | None = None
    """Days between each event and now; 0 where not given."""
    weights: Sequence[float] | None = None
    """Weight of each event; that of its type where not given."""
    user_index: int = 0
    """The user's index, 0 where unknown."""


@dataclass(frozen=True)
class HistoryBlock:
    """Rows of the `histories` table, as ragged numpy arrays over N events of B users."""

    items: npt.NDArray[np.int64]
    """Global item indices."""
    event_types: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    times: npt.NDArray[np.int64]
    """Epoch seconds."""
    folds: npt.NDArray[np.int64]
    users: npt.NDArray[np.int64]
    """Row 0..B-1 of each event."""
    size: int
    """Number of users B."""
    user_index: npt.NDArray[np.int64] | None = None
    """[B] index of each user, where the block tells it."""

    @classmethod
    def from_arrow(cls, block: pa.RecordBatch | pa.Table) -> HistoryBlock:
        """The list columns of a block of the `histories` table."""
        columns = {}
        for name in ("items", "event_types", "weights", "times", "folds"):
            column = block.column(name)
            columns[name] = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        lengths = np.diff(columns["items"].offsets.to_numpy())
        named = "user_index" in block.schema.names
        values = {name: column.flatten().to_numpy(zero_copy_only=False) for name, column in columns.items()}
        return cls(
            items=values["items"].astype(np.int64),
            event_types=values["event_types"].astype(np.int64),
            weights=values["weights"].astype(np.float32),
            times=values["times"].astype(np.int64),
            folds=values["folds"].astype(np.int64),
            users=np.repeat(np.arange(lengths.size), lengths),
            size=int(lengths.size),
            user_index=block.column("user_index").to_numpy().astype(np.int64) if named else None,
        )

    def before(
        self, folds: Sequence[int], now: int | npt.NDArray[np.int64] | None, vocabulary: Vocabulary
    ) -> UserBatch:
        """Events of the given folds whose items are known, as a batch.

        `now` is the moment of recommendation in epoch seconds, one for all or [B]; None takes each user's newest event
        (leave-one-out).
        """
        codes = vocabulary.codes_of_indices(self.items)
        keep = np.isin(self.folds, folds) & (codes >= 0)
        users = self.users[keep]
        times = self.times[keep]
        if now is None:
            newest = np.zeros(self.size, dtype=np.int64)
            np.maximum.at(newest, users, times)
            ages = (newest[users] - times) / SECONDS_A_DAY
        else:
            ages = (np.broadcast_to(now, self.size)[users] - times) / SECONDS_A_DAY
        return ragged_batch(
            codes[keep], self.event_types[keep], self.weights[keep], ages, users, self.size, self.user_index
        )


def ragged_batch(
    codes: npt.NDArray[np.int64],
    event_types: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    ages: npt.NDArray[np.floating],
    users: npt.NDArray[np.int64],
    size: int,
    user_index: npt.NDArray[np.int64] | None = None,
) -> UserBatch:
    """A UserBatch from event arrays [N] in user order; `users` is the row of each event, `user_index` [B] who it is."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=size))]).astype(np.int64)
    return UserBatch(
        items=torch.from_numpy(np.ascontiguousarray(codes)),
        event_types=torch.from_numpy(np.ascontiguousarray(event_types)),
        weights=torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32)),
        ages=torch.from_numpy(np.ascontiguousarray(ages, dtype=np.float64)),
        offsets=torch.from_numpy(offsets),
        user_index=None if user_index is None else torch.from_numpy(user_index),
    )


def raw_history(row: Mapping[str, Any], vocabulary: Vocabulary, now: float) -> RawHistory:
    """A row of the `histories` table in ids, names and ages at `now` (epoch seconds), without unknown items."""
    codes = vocabulary.codes_of_indices(np.asarray(row["items"], dtype=np.int64))
    known = codes >= 0
    ages = (now - np.asarray(row["times"], dtype=np.float64)) / SECONDS_A_DAY
    return RawHistory(
        item_ids=vocabulary.ids_of(codes[known]).to_pylist(),
        event_types=[EVENT_TYPES[code] for code, kept in zip(row["event_types"], known, strict=True) if kept],
        weights=np.asarray(row["weights"])[known].tolist(),
        ages_days=np.maximum(ages[known], 0.0).tolist(),
        user_index=row["user_index"],
    )


def batch_of_raw(
    histories: Sequence[RawHistory], vocabulary: Vocabulary, event_weights: Mapping[str, float]
) -> UserBatch:
    """A UserBatch from raw histories; items that the vocabulary lacks are left out."""
    codes = [vocabulary.codes(history.item_ids) for history in histories]
    lengths = [len(history.item_ids) for history in histories]
    types = [history.event_types or ["purchase"] * length for history, length in zip(histories, lengths, strict=True)]
    ages = [
        np.asarray(history.ages_days if history.ages_days is not None else np.zeros(length), dtype=np.float64)
        for history, length in zip(histories, lengths, strict=True)
    ]
    type_codes = {name: code for code, name in enumerate(EVENT_TYPES)}
    weights = [
        history.weights if history.weights is not None else [event_weights.get(name, 0.0) for name in row]
        for history, row in zip(histories, types, strict=True)
    ]
    flat_types = map(type_codes.get, chain.from_iterable(types), repeat(0))
    all_codes = np.concatenate([*codes, np.empty(0, dtype=np.int64)])
    keep = all_codes >= 0
    return ragged_batch(
        all_codes[keep],
        np.fromiter(flat_types, dtype=np.int64)[keep],
        np.fromiter(chain.from_iterable(weights), dtype=np.float32)[keep],
        np.concatenate([*ages, np.empty(0)])[keep],
        np.repeat(np.arange(len(histories)), lengths)[keep],
        len(histories),
        np.array([history.user_index for history in histories], dtype=np.int64),
    )
