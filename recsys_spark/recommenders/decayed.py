"""Histories as item-item and history scorers want them: each user's distinct items with a decayed weight.

Letters as in `batch`; N here is the number of distinct (user, item) pairs of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.recommenders.batch import UserBatch


@dataclass(frozen=True)
class HistoryItems:
    """Distinct items of each user with positive weight, ordered by user, then by code."""

    users: Tensor
    """[N] int64, row of the user."""
    items: Tensor
    """[N] int64, code."""
    weights: Tensor
    """[N] float32, sum over the item's events of event weight x 0.5^(age / half-life)."""
    offsets: Tensor
    """[B+1] int64: user b owns entries offsets[b] to offsets[b+1]."""

    @property
    def known(self) -> Tensor:
        """[B] bool: has the user any item."""
        return self.offsets[1:] > self.offsets[:-1]

    def keep(self, mask: Tensor) -> HistoryItems:
        """The entries where `mask` [N] is true."""
        return _ordered(self.users[mask], self.items[mask], self.weights[mask], int(self.offsets.numel()) - 1)


def decayed_items(batch: UserBatch, num_items: int, half_life_days: float, most: float = math.inf) -> HistoryItems:
    """Each user's distinct items, events summed with weight x 0.5^(age / half-life), up to `most` an item.

    Items without weight are left out.
    """
    settings = (num_items, half_life_days, most)
    return batch.once(("decayed", *settings), lambda: _decayed(batch, *settings))


def _decayed(batch: UserBatch, num_items: int, half_life_days: float, most: float) -> HistoryItems:
    terms = batch.weights * torch.pow(0.5, batch.ages / half_life_days).float()
    keys = batch.users * num_items + batch.items
    pairs, place = batch.once(("pairs", num_items), lambda: torch.unique(keys, return_inverse=True))
    weights = torch.zeros(pairs.numel(), dtype=torch.float32).index_add_(0, place, terms).clamp_(max=most)
    users = torch.div(pairs, num_items, rounding_mode="floor")
    every = _ordered(users, pairs - users * num_items, weights, batch.size)
    return every.keep(weights > 0)


def _ordered(users: Tensor, items: Tensor, weights: Tensor, size: int) -> HistoryItems:
    offsets = torch.zeros(size + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(users, minlength=size), 0, out=offsets[1:])
    return HistoryItems(users=users, items=items, weights=weights, offsets=offsets)
