"""NeuMF: a generalised matrix factorisation and a multi-layer perceptron side by side (He et al. 2017).

    r = h . (p_u * q_i)  +  w . MLP([x_u, x_i])

The vectors are split in halves: p, q for the product, x for the perceptron. The perceptron's first layer is linear in
its two inputs, W [x_u, x_i] + b = (W_u x_u + b) + W_i x_i, so its parts are computed once for each user and each item,
and scoring the catalogue only adds, clips and sums over tiles.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from recsys_spark.models.composition import Composition

TILE_BYTES = 2 * 2**20


class NeuMF(nn.Module):
    """NeuMF's two parts over user and item vectors of even width D = 2 H."""

    projects_items = True
    factorises = False

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.half = composition.dim // 2
        self.gmf = nn.Parameter(torch.empty(self.half))
        self.user_layer = nn.Linear(self.half, self.half)
        self.item_layer = nn.Linear(self.half, self.half, bias=False)
        widths = [max(self.half >> depth, 1) for depth in range(composition.layers)]
        self.hidden = nn.ModuleList(nn.Linear(wide, narrow) for wide, narrow in pairwise(widths))
        self.out = nn.Parameter(torch.empty(widths[-1]))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Start the product part as a plain dot product (h = 1) and draw the perceptron (He initialisation)."""
        nn.init.ones_(self.gmf)
        for layer in (self.user_layer, self.item_layer, *self.hidden):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        nn.init.uniform_(
            self.out, -1 / math.sqrt(self.out.numel()), 1 / math.sqrt(self.out.numel()), generator=generator
        )

    def user_side(self, users_BD: Tensor) -> Tensor:
        """[B, D]: the weighed product half, and the user's part of the first hidden layer."""
        product_BH, perceptron_BH = users_BD.split(self.half, dim=-1)
        return torch.cat((product_BH * self.gmf, self.user_layer(perceptron_BH)), dim=-1)

    def item_side(self, items_ID: Tensor) -> Tensor:
        """[I, D]: the product half, and the item's part of the first hidden layer."""
        product_IH, perceptron_IH = items_ID.split(self.half, dim=-1)
        return torch.cat((product_IH, self.item_layer(perceptron_IH)), dim=-1)

    def laid_out(self, items_ID: Tensor) -> Tensor:
        """The item side as `matrix` reads it: with one layer unit by unit, so a unit's numbers stand together."""
        return items_ID if self.hidden else items_ID.T.contiguous().T

    def pairs(self, users_BD: Tensor, items_BKD: Tensor) -> Tensor:
        """Scores [B, K] of each user with its own items."""
        user_product, user_hidden = users_BD.split(self.half, dim=-1)
        item_product, item_hidden = items_BKD.split(self.half, dim=-1)
        product_BK = torch.einsum("bh,bkh->bk", user_product, item_product)
        return product_BK + self._perceptron(torch.relu(user_hidden[:, None, :] + item_hidden))

    def matrix(self, users_BD: Tensor, items_ID: Tensor) -> Tensor:
        """Scores [B, I] of two sides, in tiles of the catalogue of about `TILE_BYTES` (without gradient)."""
        user_product, user_hidden = users_BD.split(self.half, dim=-1)
        item_product, item_hidden = items_ID.split(self.half, dim=-1)
        scores_BI = user_product @ item_product.T
        rows = 1 if self.hidden else self.half
        width = max(1, TILE_BYTES * rows // (4 * self.half * max(1, users_BD.shape[0])))
        for start in range(0, items_ID.shape[0], width):
            tile = scores_BI[:, start : start + width]
            if self.hidden:
                tile += self._perceptron(torch.relu(user_hidden[:, None, :] + item_hidden[start : start + width]))
            else:
                self._add_one_layer(tile, user_hidden, item_hidden[start : start + width])
        return scores_BI

    def _perceptron(self, hidden: Tensor) -> Tensor:
        for layer in self.hidden:
            hidden = torch.relu(layer(hidden))
        return hidden @ self.out

    def _add_one_layer(self, tile_BI: Tensor, user_hidden_BH: Tensor, item_hidden_IH: Tensor) -> None:
        """Add the one-layer perceptron unit by unit: the tile stays in cache and [B, I, H] is never made."""
        item_hidden_HI = item_hidden_IH.T.contiguous()
        unit_BI = torch.empty_like(tile_BI, memory_format=torch.contiguous_format)
        for unit, weight in enumerate(self.out.tolist()):
            torch.add(user_hidden_BH[:, unit, None], item_hidden_HI[unit], out=unit_BI)
            tile_BI.add_(unit_BI.relu_(), alpha=weight)
