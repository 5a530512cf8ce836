"""Which segment a user belongs to, read off the history: by favourite category, or by activity.

Segment 0 is everybody: users of whom nothing is known. Fits and scoring both go through here. Letters as in `batch`;
S is the number of segments besides 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.recommenders.batch import UserBatch

LEAST_ACTIVITY = 2.0**-20
"""Decayed events below which a user has done nothing lately."""


@dataclass(frozen=True)
class ByCategory:
    """The segment of the category with the largest decayed weight in the history; of equals the smaller segment."""

    segments_I: Tensor
    """[I] int64: 1..S, the segment of each item's category, or 0 where it makes none."""
    size: int
    """S."""
    half_life_days: float

    def of(self, batch: UserBatch) -> Tensor:
        """[B] int64."""
        shares_BS = torch.zeros(batch.size * (self.size + 1))
        terms = batch.weights * torch.pow(0.5, batch.ages / self.half_life_days).float()
        shares_BS.index_add_(0, batch.users * (self.size + 1) + self.segments_I[batch.items], terms)
        shares_BS = shares_BS.view(batch.size, self.size + 1)
        shares_BS[:, 0] = 0  # items outside the segments say nothing
        return shares_BS.argmax(1)  # a row of zeros gives 0


@dataclass(frozen=True)
class ByActivity:
    """Levels of the decayed weight of a user's events."""

    edges: Tensor
    """[S-1] float32 ascending: level s lies between edges s-2 and s-1, its lower one included."""
    half_life_days: float

    @property
    def size(self) -> int:
        """S."""
        return int(self.edges.numel()) + 1

    def activity(self, batch: UserBatch) -> Tensor:
        """[B] float32: the decayed weight of each user's events."""
        terms = batch.weights * torch.pow(0.5, batch.ages / self.half_life_days).float()
        return torch.zeros(batch.size).index_add_(0, batch.users, terms)

    def of(self, batch: UserBatch) -> Tensor:
        """[B] int64."""
        activity_B = self.activity(batch)
        levels_B = torch.searchsorted(self.edges, activity_B, right=True) + 1
        return levels_B * (activity_B >= LEAST_ACTIVITY)
