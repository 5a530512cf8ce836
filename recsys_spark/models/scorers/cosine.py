"""The cosine, divided by a temperature that is learnt."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composition import Composition

MOST_SCALE = 100.0
"""The cosine is never divided by less than 1 / MOST_SCALE, nor by more than 1."""


class Cosine(nn.Module):
    """r = cos(v_u, v_i) / temperature: both sides are normalised, the user's carries the scale.

    The scale 1 / temperature is MOST_SCALE ** sigmoid(x): it stays within its bounds, and x never stands where it has
    no gradient, as it would where a bound cut it off.
    """

    projects_items = True
    factorises = True

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.start = 1.0 / composition.temperature
        self.scale_logit = nn.Parameter(torch.empty(1))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Start at the composition's temperature."""
        share = math.log(self.start) / math.log(MOST_SCALE)
        nn.init.constant_(self.scale_logit, math.log(share / (1.0 - share)))

    def user_side(self, users_BD: Tensor) -> Tensor:
        """User vectors of length 1 / temperature."""
        return F.normalize(users_BD, dim=-1) * torch.exp(math.log(MOST_SCALE) * torch.sigmoid(self.scale_logit))

    def item_side(self, items_ID: Tensor) -> Tensor:
        """Item vectors of length one."""
        return F.normalize(items_ID, dim=-1)

    def matrix(self, users_BD: Tensor, items_ID: Tensor) -> Tensor:
        """Scores [B, I] of two sides."""
        return users_BD @ items_ID.T

    def laid_out(self, items_ID: Tensor) -> Tensor:
        """The item side as `matrix` reads it: as it is."""
        return items_ID

    def pairs(self, users_BD: Tensor, items_BKD: Tensor) -> Tensor:
        """Scores [B, K] of each user with its own items."""
        return torch.einsum("bd,bkd->bk", users_BD, items_BKD)
