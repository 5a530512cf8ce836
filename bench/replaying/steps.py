"""The steps of a replay: what a user buys at one moment, and the history before it. Letters as in `recommenders.batch`.

S steps; a step's moment is a second, since what is bought together is logged together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.histories import SECONDS_A_DAY, HistoryBlock, ragged_batch
from recsys_spark.recommenders.vocabulary import Vocabulary

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Shop:
    """All histories, of known items: flat arrays of N events, oldest first within a user."""

    codes: Ints
    types: Ints
    weights: NDArray[np.float32]
    times: Ints
    """[N] epoch seconds."""
    targets: Bools
    """[N] is it a target event."""
    users: Ints
    """[N] row of the user."""
    offsets: Ints
    """[U + 1] user u owns the events offsets[u] to offsets[u + 1]."""
    num_items: int

    @classmethod
    def read(cls, histories: Path, vocabulary: Vocabulary, targets: NDArray[np.bool_]) -> Shop:
        """The table `histories`; `targets` says of each event type whether it is a target."""
        table = pq.read_table(histories, columns=["items", "event_types", "weights", "times", "folds"])
        block = HistoryBlock.from_arrow(table.combine_chunks())
        codes = vocabulary.codes_of_indices(block.items)
        kept = codes >= 0
        offsets = np.r_[0, np.cumsum(np.bincount(block.users[kept], minlength=block.size))].astype(np.int64)
        types = block.event_types[kept]
        return cls(
            codes[kept],
            types,
            block.weights[kept],
            block.times[kept],
            targets[types],
            block.users[kept],
            offsets,
            vocabulary.size,
        )

    def histories(self, users: Ints, ends: Ints, now: Ints) -> UserBatch:
        """The events of each row's user before place `ends` [B], at the moments `now` [B] (epoch seconds)."""
        starts = self.offsets[users]
        lengths = ends - starts
        rows = np.repeat(np.arange(len(users)), lengths)
        place = np.arange(len(rows)) + (starts - (np.cumsum(lengths) - lengths))[rows]
        ages = (now[rows] - self.times[place]) / SECONDS_A_DAY
        return ragged_batch(
            self.codes[place], self.types[place], self.weights[place], ages, rows, len(users), np.zeros_like(users)
        )

    def ends_before(self, users: Ints, moments: Ints) -> Ints:
        """[B] the place of each user's first event at or after a moment."""
        key = self.users * (1 << 33) + self.times
        return np.searchsorted(key, users * (1 << 33) + moments)

    def steps(self, start: int, end: int) -> Steps:
        """What was bought from `start` on and before `end` by users with a history, in the order of time."""
        inside = np.flatnonzero((self.times >= start) & (self.times < end) & self.targets)
        moments = np.unique(np.stack([self.users[inside], self.times[inside]], axis=1), axis=0)
        users, times = moments[:, 0], moments[:, 1]
        order = np.lexsort((users, times))
        users, times = users[order], times[order]
        steps = Steps(self, users, times, self.ends_before(users, times), self.ends_before(users, times + 1))
        return steps.of(steps.begins > self.offsets[users])


@dataclass(frozen=True)
class Steps:
    """S steps, in the order of time, then user."""

    shop: Shop
    users: Ints
    times: Ints
    begins: Ints
    """[S] place of the step's first event: the history is what stands before it."""
    ends: Ints
    """[S] place behind its last."""

    def of(self, some: Bools | Ints) -> Steps:
        """Some of the steps."""
        parts = (self.users, self.times, self.begins, self.ends)
        return Steps(self.shop, *(part[some] for part in parts))

    def of_users(self, most: int, seed: int) -> Steps:
        """The steps of that many users, drawn."""
        users = np.unique(self.users)
        chosen = np.random.default_rng(seed).permutation(users)[:most]
        return self.of(np.isin(self.users, chosen))

    @property
    def size(self) -> int:
        """Number of steps S."""
        return len(self.users)

    @cached_property
    def bought(self) -> tuple[Ints, Ints]:
        """Steps and codes of what was bought in them, each once."""
        lengths = self.ends - self.begins
        step = np.repeat(np.arange(self.size), lengths)
        place = np.arange(len(step)) + (self.begins - (np.cumsum(lengths) - lengths))[step]
        hit = self.shop.targets[place]
        keys = np.unique(step[hit] * self.shop.num_items + self.shop.codes[place[hit]])
        return keys // self.shop.num_items, keys % self.shop.num_items

    def learned(self) -> tuple[UserBatch, Ints, Ints]:
        """The histories before the steps, and the steps' events by row and code, for online learning."""
        return (self.shop.histories(self.users, self.begins, self.times), *self.bought)

    def new(self) -> Bools:
        """Of each of `bought`: had the user never bought it before."""
        shop, (step, code) = self.shop, self.bought
        owned = np.unique(shop.users[shop.targets] * shop.num_items + shop.codes[shop.targets])
        first = np.full(len(owned), np.iinfo(np.int64).max)
        place = np.searchsorted(owned, shop.users[shop.targets] * shop.num_items + shop.codes[shop.targets])
        np.minimum.at(first, place, shop.times[shop.targets])
        return first[np.searchsorted(owned, self.users[step] * shop.num_items + code)] >= self.times[step]


def truncated(steps: Steps, moments: Ints) -> tuple[Ints, Ints]:
    """Where histories end that were read at `moments` [S], not after the steps; and these moments."""
    return np.minimum(steps.shop.ends_before(steps.users, moments), steps.begins), moments


def up_to_date(steps: Steps, published: Ints) -> tuple[Ints, Ints]:
    """The whole histories before the steps; lists are made at the newest event, or at `published` [S] if later."""
    newest = steps.shop.times[steps.begins - 1]
    return steps.begins, np.maximum(newest, published)
