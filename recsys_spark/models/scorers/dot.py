"""The dot product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys_spark.models.composition import Composition


class Dot(nn.Module):
    """r = v_u . v_i, without parameters."""

    projects_items = False
    factorises = True

    def __init__(self, composition: Composition) -> None:
        super().__init__()

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Nothing to draw."""

    def user_side(self, users_BD: Tensor) -> Tensor:
        """The user vectors as they are."""
        return users_BD

    def item_side(self, items_ID: Tensor) -> Tensor:
        """The item vectors as they are."""
        return items_ID

    def matrix(self, users_BD: Tensor, items_ID: Tensor) -> Tensor:
        """Scores [B, I] of two sides."""
        return users_BD @ items_ID.T

    def laid_out(self, items_ID: Tensor) -> Tensor:
        """The item side as `matrix` reads it: as it is."""
        return items_ID

    def pairs(self, users_BD: Tensor, items_BKD: Tensor) -> Tensor:
        """Scores [B, K] of each user with its own items."""
        return torch.einsum("bd,bkd->bk", users_BD, items_BKD)
