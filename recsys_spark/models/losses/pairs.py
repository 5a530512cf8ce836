"""Scores of each position's target and of the negatives drawn for it: what the pairwise losses are made of."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_spark.models.losses.protocol import Scorer
from recsys_spark.models.step import Negatives

BLOCK_BYTES = 8 * 2**20
"""Item sides gathered at once."""


def pair_scores(
    scorer: Scorer, users_PD: Tensor, vectors_RD: Tensor, biases_R: Tensor, targets_P: Tensor, negatives: Negatives
) -> tuple[Tensor, Tensor]:
    """Scores of the targets [P] and of the negatives [P, K]; -inf where a negative is the target by accident."""
    rows_PK = torch.cat((targets_P[:, None], negatives.rows), dim=1)
    with torch.autocast(users_PD.device.type, enabled=False):
        users_PD, vectors_RD = users_PD.to(biases_R.dtype), vectors_RD.to(biases_R.dtype)
        users_PD, items_RD = scorer.user_side(users_PD), scorer.item_side(vectors_RD)
        if scorer.factorises:
            scores_PK: Tensor = _Products.apply(users_PD, items_RD, rows_PK)
        else:
            scores_PK = scorer.pairs(users_PD, F.embedding(rows_PK, items_RD))
    scores_PK = scores_PK + F.embedding(rows_PK, biases_R[:, None]).squeeze(2)
    hits_PK = negatives.rows == targets_P[:, None]
    return scores_PK[:, 0], scores_PK[:, 1:].masked_fill(hits_PK, -torch.inf)


class _Products(torch.autograd.Function):
    """Dot products [P, K] of each user with its own items: the [P, K, D] gathered items are never there at once."""

    @staticmethod
    def forward(ctx: Any, users_PD: Tensor, items_RD: Tensor, rows_PK: Tensor) -> Tensor:
        """Block by block of positions."""
        ctx.save_for_backward(users_PD, items_RD, rows_PK)
        parts = [_gathered(items_RD, rows) @ users[:, :, None] for users, rows in _blocks(users_PD, rows_PK)]
        return torch.cat(parts).squeeze(2) if parts else users_PD.new_zeros(rows_PK.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_PK: Tensor) -> tuple[Tensor | None, ...]:
        """The items are gathered again; their gradient is added up block by block."""
        users_PD, items_RD, rows_PK = ctx.saved_tensors
        grad_users_PD, grad_items_RD, start = torch.empty_like(users_PD), torch.zeros_like(items_RD), 0
        for users, rows in _blocks(users_PD, rows_PK):
            grad = grad_PK[start : start + len(rows)]
            grad_users_PD[start : start + len(rows)] = (grad[:, None, :] @ _gathered(items_RD, rows)).squeeze(1)
            grad_items_RD.index_add_(0, rows.flatten(), (grad[:, :, None] * users[:, None, :]).flatten(0, 1))
            start += len(rows)
        return grad_users_PD, grad_items_RD, None


def _blocks(users_PD: Tensor, rows_PK: Tensor) -> Any:
    size = max(1, BLOCK_BYTES // (4 * rows_PK.shape[1] * users_PD.shape[1]))
    return zip(users_PD.split(size), rows_PK.split(size), strict=True) if users_PD.shape[0] else ()


def _gathered(items_RD: Tensor, rows_PK: Tensor) -> Tensor:
    return items_RD.index_select(0, rows_PK.flatten()).view(*rows_PK.shape, -1)
