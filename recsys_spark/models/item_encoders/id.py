"""An item vector looked up by the item's id."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class IdItems(nn.Module):
    """A table of I + 1 vectors; row 0 belongs to padding and stays zero."""

    def __init__(self, num_items: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_items + 1, dim))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the vectors from a normal distribution, so that a vector's expected squared length is one."""
        nn.init.normal_(self.weight, std=1.0 / math.sqrt(self.weight.shape[1]), generator=generator)
        with torch.no_grad():
            self.weight[0].zero_()

    def forward(self, tokens_R: Tensor) -> Tensor:
        """Vectors [R, D] of distinct tokens; their gradient is sparse: only the rows that took part."""
        return F.embedding(tokens_R, self.weight, sparse=True)
