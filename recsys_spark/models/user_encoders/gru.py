"""A GRU over the history (GRU4Rec, Hidasi and Karatzoglou 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class GRUHistory(nn.Module):
    """A user is the projected state of a GRU that has read the history so far."""

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(dim, dim, num_layers=layers, dropout=dropout if layers > 1 else 0.0, batch_first=True)
        self.project = nn.Linear(dim, dim)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw every parameter uniformly within one over the square root of the width."""
        bound = 1.0 / math.sqrt(self.gru.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, items_BLD: Tensor) -> Tensor:
        """User vectors [B, L, D]: position l has read items 0..l."""
        states_BLD, _ = self.gru(self.dropout(items_BLD))
        users_BLD: Tensor = self.project(states_BLD)
        return users_BLD
