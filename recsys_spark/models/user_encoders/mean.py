"""The causal mean of the history's item vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanHistory(nn.Module):
    """A user is the mean of the item vectors seen so far: no parameters."""

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Nothing to draw."""

    def forward(self, items_BLD: Tensor) -> Tensor:
        """User vectors [B, L, D]: position l is the mean of items 0..l."""
        positions_L = torch.arange(1, items_BLD.shape[1] + 1, device=items_BLD.device, dtype=items_BLD.dtype)
        return self.dropout(items_BLD.cumsum(dim=1) / positions_L[:, None])
