"""The causal mean of the history's item vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys_spark.models.composition import Composition
from recsys_spark.models.packed import Rows


class MeanHistory(nn.Module):
    """A user is the mean of the item vectors seen so far: no parameters."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.input_dropout = nn.Dropout(composition.input_dropout or 0.0)
        self.dropout = nn.Dropout(composition.dropout)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Nothing to draw."""

    def forward(self, inputs_PD: Tensor, rows: Rows) -> Tensor:
        """User vectors [P, D]: the mean of the row's items up to each position."""
        sums = [group.cumsum(dim=1) for group in rows.to_groups(self.input_dropout(inputs_PD))]
        counts_P = (rows.place_P + 1).to(inputs_PD.dtype)
        users_PD: Tensor = self.dropout(rows.from_groups(sums) / counts_P[:, None])
        return users_PD
