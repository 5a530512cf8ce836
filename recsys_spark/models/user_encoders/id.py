"""A user vector looked up by the user's id: matrix factorisation's textbook form."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composition import Composition


class IdUsers(nn.Module):
    """A table of U + 1 vectors, row 0 of unknown users; it knows which users it was trained on."""

    sparse_gradient = True
    """The gradient of `weight` holds the rows of a step alone."""
    seen: Tensor

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(composition.num_users + 1, composition.dim))
        self.register_buffer("seen", torch.zeros(composition.num_users + 1, dtype=torch.bool))
        self.dropout = nn.Dropout(composition.dropout)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the vectors as those of items; nobody has been seen."""
        nn.init.normal_(self.weight, std=1.0 / math.sqrt(self.weight.shape[1]), generator=generator)
        self.seen.zero_()

    def forward(self, users_U: Tensor) -> Tensor:
        """Vectors [U, D] of distinct users; while training they count as seen."""
        if self.training:
            self.seen[users_U] = True
        vectors_UD: Tensor = self.dropout(F.embedding(users_U, self.weight, sparse=True))
        return vectors_UD

    def known(self, user_index_B: Tensor) -> Tensor:
        """Which users [B] the table was trained on."""
        inside_B = (user_index_B > 0) & (user_index_B < self.seen.numel())
        return inside_B & self.seen[torch.where(inside_B, user_index_B, 0)]
