"""The causal mean of the history's item vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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

    def last(self, inputs_TD: Tensor, token_P: Tensor, rows: Rows) -> Tensor:
        """User vectors [B, D] after the last position of each row alone, without dropout: the mean of its inputs.

        Inputs [T, D] are told once each, `token_P` says which one stands at each position.
        """
        users_BD: Tensor = F.embedding_bag(token_P, inputs_TD, rows.starts_B, mode="mean")
        return users_BD
