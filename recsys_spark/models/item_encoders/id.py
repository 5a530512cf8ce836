"""An item vector looked up by the item's id."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composition import Composition

BESIDE_GIVEN = 0.1


class IdItems(nn.Module):
    """A table of I + 1 vectors; row 0 belongs to padding and stays zero."""

    sparse_gradient = True
    """The gradient of `weight` holds the rows of a step alone."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(composition.num_items + 1, composition.dim))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the vectors from a normal distribution, so that a vector's expected squared length is one."""
        nn.init.normal_(self.weight, std=1.0 / math.sqrt(self.weight.shape[1]), generator=generator)
        with torch.no_grad():
            self.weight[0].zero_()

    @torch.no_grad()
    def start_from(self, vectors_ID: Tensor) -> None:
        """Begin with given vectors [I + 1, E], of length one, as many of their dimensions as there are here.

        Rows of zeros stay as they were drawn, and dimensions beyond E a tenth of that.
        """
        width = min(vectors_ID.shape[1], self.weight.shape[1])
        known = vectors_ID[:, :width].any(dim=1)
        given = F.normalize(vectors_ID[known, :width], dim=1)
        rest = self.weight[known, width:] * BESIDE_GIVEN
        self.weight[known] = torch.cat((given, rest), dim=1)

    def forward(self, tokens_R: Tensor) -> Tensor:
        """Vectors [R, D] of distinct tokens; their gradient is sparse: only the rows that took part."""
        return F.embedding(tokens_R, self.weight, sparse=True)
