"""Events counted by a key, and looked up by it. Legend: P distinct keys, N wanted ones."""

from __future__ import annotations

import torch
from torch import Tensor


class Counted:
    """Events by key: how many, lately how many, the newest and the oldest."""

    def __init__(self, keys: Tensor, ages: Tensor) -> None:
        self.keys, self.place = torch.unique(keys, return_inverse=True)
        """[P], ascending; and the place in it of each event."""
        size = self.keys.numel()
        within = (ages < torch.inf, ages < 7, ages < 30, ages < 90)
        self.counts = [torch.bincount(self.place[inside], minlength=size).float() for inside in within]
        """All, and those of the last 7, 30 and 90 days."""
        days = ages.float()
        self.newest = torch.full((size,), torch.inf).scatter_reduce_(0, self.place, days, "amin")
        self.oldest = torch.full((size,), -torch.inf).scatter_reduce_(0, self.place, days, "amax")


def at(values_P: Tensor, place_N: Tensor, missing: float) -> Tensor:
    """[N] float32 the value at each place, `missing` at -1."""
    padded = torch.cat([values_P.float(), torch.tensor([missing])])
    return padded[place_N]
