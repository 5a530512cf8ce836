"""Looking up (user, item) pairs by their keys user x I + item."""

from __future__ import annotations

import torch
from torch import Tensor


def find_pairs(sorted_keys: Tensor, wanted: Tensor) -> Tensor:
    """Position of each wanted key in `sorted_keys` [N], -1 where it is not there; the shape is that of `wanted`."""
    if sorted_keys.numel() == 0:
        return torch.full_like(wanted, -1)
    place = torch.searchsorted(sorted_keys, wanted.contiguous()).clamp_(max=sorted_keys.numel() - 1)
    return torch.where(sorted_keys[place] == wanted, place, -1)
