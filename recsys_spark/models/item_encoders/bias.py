"""One number an item: how likely it is whoever the user is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ItemBias(nn.Module):
    """A learned bias of each item, added to its score; row 0 belongs to padding."""

    sparse_gradient = True
    """The gradient of `weight` holds the rows of a step alone."""

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_items + 1, 1))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Start at zero: every item equally likely."""
        nn.init.zeros_(self.weight)

    @torch.no_grad()
    def start_from_counts(self, counts_I: Tensor) -> None:
        """Start at the logarithm of each item's share of events over the uniform share.

        The losses make scores estimate log p(item | user) up to a constant, so training starts from popularity and
        the vectors only have to learn what is personal.
        """
        smoothed_I = counts_I.to(torch.float64) + 1.0
        self.weight[1:, 0] = torch.log(smoothed_I * (smoothed_I.numel() / smoothed_I.sum())).to(self.weight.dtype)

    def forward(self, tokens_R: Tensor) -> Tensor:
        """Biases [R] of distinct tokens."""
        return F.embedding(tokens_R, self.weight, sparse=True).squeeze(1)
