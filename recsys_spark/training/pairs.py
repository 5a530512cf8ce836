"""What of a row of events is read, and what may be its next item.

For each event that is an item of the row's next moment, drawn where several were bought at once. Where no two events of
a user share a time this is the next item. Baskets have no order inside, only the order in which their lines were
written; learning the next line teaches that order instead of what is bought later. Rows that are one basket alone fall
back to the next line.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """The P events of rows [B, L] that something comes after, as indices into B * L: the first ones of each row."""

    index_P: Tensor
    """[P] the events read, row by row."""
    first_P: Tensor
    """[P] the first event of the next moment."""
    after_P: Tensor
    """[P] the event behind the last one of the next moment."""
    counts_B: Tensor
    """[B] events of each row among them."""

    def target_index(self, uniform_P: Tensor) -> Tensor:
        """[P] an event of the next moment for each uniform number of [0, 1)."""
        drawn_P = self.first_P + (uniform_P * (self.after_P - self.first_P)).to(torch.int64)
        return drawn_P.minimum(self.after_P - 1)


def next_moment_pairs(times_BL: Tensor, lengths_B: Tensor) -> Pairs:
    """The pairs of left-aligned rows of times; rows of length 0 and 1 have none."""
    full = times_BL.shape[1]
    width = max(1, int(lengths_B.max()) if lengths_B.numel() else 1)
    places_L = torch.arange(width)
    real_BL = places_L < lengths_B[:, None]
    moments_BL = F.pad(times_BL[:, :width].diff(dim=1) != 0, (1, 0)).cumsum(dim=1)
    last_B = moments_BL.gather(1, (lengths_B - 1).clamp(min=0)[:, None])
    moments_BL = torch.where(last_B == 0, places_L, moments_BL)
    moments_BL = moments_BL.masked_fill(~real_BL, width + 1)
    first_BL = torch.searchsorted(moments_BL, moments_BL + 1)
    after_BL = torch.searchsorted(moments_BL, moments_BL + 1, right=True)
    read_BL = real_BL & (after_BL > first_BL)
    rows_P, columns_P = read_BL.nonzero(as_tuple=True)
    starts_P = rows_P * full
    return Pairs(starts_P + columns_P, starts_P + first_BL[read_BL], starts_P + after_BL[read_BL], read_BL.sum(dim=1))


def seconds_before(times_BL: Tensor) -> Tensor:
    """[B, L] seconds between each event and the one before it, 0 for the first."""
    return F.pad(times_BL.diff(dim=1), (1, 0))
