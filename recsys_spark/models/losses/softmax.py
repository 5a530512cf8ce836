"""Softmax cross-entropy over the target and the negatives, full or sampled.

    loss_p = log(exp(s_pt) + sum_{n != t} w_n exp(s_pn)) - s_pt

With every item as a negative of weight one this is the full softmax. With sampled negatives shared by the batch and
weights from the log-Q correction the sum is an unbiased estimate of the full one; negatives that are a position's
target by accident are left out. The target itself is not corrected, since it is not drawn (Khrylchenko et al. 2025).

The gradient of a softmax is known once its value is, so blocks of positions are carried through product, softmax and
gradient while their logits are in cache; the [P, N] logits of the batch are never in memory at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_spark.models.losses.protocol import Scorer
from recsys_spark.models.step import Negatives

BLOCK_BYTES = 4 * 2**20
"""Logits of a block of positions: about a core's cache."""


def softmax_loss(
    scorer: Scorer, users_PD: Tensor, vectors_RD: Tensor, biases_R: Tensor, targets_P: Tensor, negatives: Negatives
) -> Tensor:
    """Sum over positions of the softmax cross-entropy (scorer dot only)."""
    offsets_N = biases_R.index_select(0, negatives.rows) + negatives.log_weight
    target_scores_P = (users_PD * vectors_RD.index_select(0, targets_P)).sum(dim=1) + biases_R.index_select(
        0, targets_P
    )
    slots_R = torch.full((vectors_RD.shape[0],), -1, dtype=torch.int64, device=targets_P.device)
    slots_R[negatives.rows] = torch.arange(negatives.rows.numel(), device=targets_P.device)
    loss: Tensor = _BlockedSoftmax.apply(
        users_PD, vectors_RD.index_select(0, negatives.rows), offsets_N, target_scores_P, slots_R[targets_P]
    )
    return loss


class _BlockedSoftmax(torch.autograd.Function):
    """Sum of log(exp(t_p) + sum_n exp(u_p . v_n + c_n)) - t_p, computed with its gradient block by block."""

    @staticmethod
    def forward(
        ctx: Any, users_PD: Tensor, items_ND: Tensor, offsets_N: Tensor, target_scores_P: Tensor, hits_P: Tensor
    ) -> Tensor:
        """`hits_P` is the negative that is the position's target, or -1: its logit is left out."""
        users_PD = users_PD.detach()
        grad_users_PD = torch.empty_like(users_PD)
        grad_items_ND = torch.zeros_like(items_ND)
        grad_offsets_N = torch.zeros_like(offsets_N)
        shares_P = torch.empty_like(target_scores_P)
        losses_P = torch.empty_like(target_scores_P)
        items_DN = items_ND.T.contiguous()
        block = max(1, BLOCK_BYTES // (4 * max(1, items_ND.shape[0])))
        buffer = users_PD.new_empty((min(block, users_PD.shape[0]), items_ND.shape[0]))
        for start in range(0, users_PD.shape[0], block):
            rows = slice(start, start + block)
            users = users_PD[rows]
            logits = torch.addmm(offsets_N, users, items_DN, out=buffer[: users.shape[0]])
            hit_rows = (hits_P[rows] >= 0).nonzero().squeeze(1)
            logits[hit_rows, hits_P[rows][hit_rows]] = -torch.inf
            peak = logits.amax(dim=1).maximum(target_scores_P[rows])
            total = logits.sub_(peak[:, None]).exp_().sum(dim=1)
            whole = total + torch.exp(target_scores_P[rows] - peak)
            losses_P[rows] = torch.log(whole) + peak - target_scores_P[rows]
            shares_P[rows] = total / whole
            inverse = 1.0 / whole
            torch.mul(logits @ items_ND, inverse[:, None], out=grad_users_PD[rows])
            grad_items_ND.addmm_(logits.T, users * inverse[:, None])
            grad_offsets_N.addmv_(logits.T, inverse)
        ctx.save_for_backward(grad_users_PD, grad_items_ND, grad_offsets_N, shares_P)
        return losses_P.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        """The saved gradients, scaled."""
        users_PD, items_ND, offsets_N, shares_P = ctx.saved_tensors
        return grad_loss * users_PD, grad_loss * items_ND, grad_loss * offsets_N, -grad_loss * shares_P, None
