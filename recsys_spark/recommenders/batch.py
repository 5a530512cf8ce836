"""A batch of users: what every recommender scores.

Legend of shape letters: B users, N events of the batch, L positions, I items, D dimensions, K list length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


@dataclass(frozen=True)
class UserBatch:
    """Ragged histories of B users, oldest event first; items outside the fit's vocabulary are already left out."""

    items: Tensor
    """[N] int64, codes 0..I-1 in the fit's vocabulary."""
    event_types: Tensor
    """[N] int64, codes into `events.types.EVENT_TYPES`."""
    weights: Tensor
    """[N] float32, weight of the event's type from `datasets.event_weights`."""
    ages: Tensor
    """[N] float64, days between the event and the moment of recommendation: exact to the second for decades."""
    offsets: Tensor
    """[B+1] int64: user b owns events offsets[b] to offsets[b+1]."""
    user_index: Tensor | None = None
    """[B] int64 indices of the users, 0 where unknown: asked for by recommenders that hold a table of users alone."""
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What was made of the histories, by what it is."""

    def once(self, what: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gives, made at the first time: a recommender asks several times for the same of the histories.

        It lives as long as the batch and is not written into.
        """
        if what not in self._kept:
            self._kept[what] = make()
        made: Made = self._kept[what]
        return made

    @property
    def size(self) -> int:
        """Number of users B."""
        return int(self.offsets.numel()) - 1

    @property
    def lengths(self) -> Tensor:
        """[B] int64, events of each user."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def users(self) -> Tensor:
        """[N] int64, the row (0..B-1) that owns each event."""
        return self.once("users", lambda: torch.repeat_interleave(torch.arange(self.size), self.lengths))

    def rows(self, start: int, stop: int) -> UserBatch:
        """The users start..stop-1 as a batch of their own (views, no copy)."""
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        return UserBatch(
            items=self.items[low:high],
            event_types=self.event_types[low:high],
            weights=self.weights[low:high],
            ages=self.ages[low:high],
            offsets=self.offsets[start : stop + 1] - low,
            user_index=None if self.user_index is None else self.user_index[start:stop],
        )
