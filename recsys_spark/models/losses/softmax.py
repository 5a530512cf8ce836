"""Softmax cross-entropy over the target and the negatives, full or sampled.

    loss_p = log(exp(s_pt) + sum_{n != t} w_n exp(s_pn)) - s_pt

With every item as a negative of weight one this is the full softmax. With sampled negatives shared by the batch and
weights from the log-Q correction the sum is an unbiased estimate of the full one; negatives that are a position's
target by accident are left out. The target itself is not corrected, since it is not drawn (Khrylchenko et al. 2025).
With the step's own targets as negatives, weighed as draws by frequency, it is the in-batch contrastive loss of two
towers (Yi et al. 2019).

The gradient of a softmax is known once its value is, so blocks of positions are carried through product, softmax and
gradient while their logits are in cache; the [P, N] logits of the batch are never in memory at once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_spark.models.losses.protocol import Scorer
from recsys_spark.models.step import Negatives

BLOCK_BYTES = {"cpu": 8 * 2**20, "cuda": 512 * 2**20}
"""Logits of a block of positions: about a core's cache; on a GPU as many as keep it busy."""
NEAR = 40.0
"""Where no score can be further from zero, exponentials need no peak taken off: e^40 squared is still a float32."""


def softmax_loss(
    scorer: Scorer,
    users_PD: Tensor,
    vectors_RD: Tensor,
    biases_R: Tensor,
    targets_P: Tensor,
    negatives: Negatives,
    half: bool = False,
) -> Tensor:
    """Sum over positions of the softmax cross-entropy; the scorer must factorise.

    `half`: the products with the negatives are taken in bfloat16. Softmax and sums over blocks stay in float32, and so
    does the target's score, whose rounding would not average out as that of many negatives does.
    """
    assert scorer.factorises
    with torch.autocast(users_PD.device.type, enabled=False):
        vectors_RD = vectors_RD.to(biases_R.dtype)
        users_PD, items_RD = scorer.user_side(users_PD.to(biases_R.dtype)), scorer.item_side(vectors_RD)
        offsets_N = biases_R.index_select(0, negatives.rows) + negatives.log_weight
        target_scores_P = (users_PD * F.embedding(targets_P, items_RD)).sum(dim=1)
        target_scores_P = target_scores_P + biases_R.index_select(0, targets_P)
        slots_R = torch.full((vectors_RD.shape[0],), -1, dtype=torch.int64, device=targets_P.device)
        slots_R[negatives.rows] = torch.arange(negatives.rows.numel(), device=targets_P.device)
        items_ND = items_RD.index_select(0, negatives.rows)
        loss: Tensor = _BlockedSoftmax.apply(users_PD, items_ND, offsets_N, target_scores_P, slots_R[targets_P], half)
    return loss


class _BlockedSoftmax(torch.autograd.Function):
    """Sum of log(exp(t_p) + sum_n exp(u_p . v_n + c_n)) - t_p, computed with its gradient block by block."""

    @staticmethod
    def forward(
        ctx: Any,
        users_PD: Tensor,
        items_ND: Tensor,
        offsets_N: Tensor,
        target_scores_P: Tensor,
        hits_P: Tensor,
        half: bool,
    ) -> Tensor:
        """`hits_P` is the negative that is the position's target, or -1: its logit is left out."""
        grad_users_PD = torch.empty_like(users_PD)
        grad_items_ND = torch.zeros_like(items_ND)
        grad_offsets_N = torch.zeros_like(offsets_N)
        shares_P, losses_P = torch.empty_like(target_scores_P), torch.empty_like(target_scores_P)
        product = _HalfProducts(items_ND) if half else _Products(items_ND)
        block = max(1, BLOCK_BYTES[users_PD.device.type] // (4 * max(1, items_ND.shape[0])))
        near = _all_near(users_PD, items_ND, offsets_N, target_scores_P)
        buffer = users_PD.new_empty((min(block, users_PD.shape[0]), items_ND.shape[0]))
        for start in range(0, users_PD.shape[0], block):
            rows = slice(start, start + block)
            users, targets = users_PD[rows], target_scores_P[rows]
            logits = product.logits(users, offsets_N, buffer[: users.shape[0]])
            _leave_out(logits, hits_P[rows])
            if near:
                peak = torch.zeros_like(targets)
            else:
                peak = logits.amax(dim=1).maximum(targets)
                logits.sub_(peak[:, None])
            total = logits.exp_().sum(dim=1)
            whole = total + torch.exp(targets - peak)
            losses_P[rows] = torch.log(whole) + (peak - targets)
            shares_P[rows] = total / whole
            inverse = 1.0 / whole
            product.add_gradients(logits, users, inverse, grad_users_PD[rows], grad_items_ND)
            grad_offsets_N.addmv_(logits.T, inverse)
        ctx.save_for_backward(grad_users_PD, grad_items_ND, grad_offsets_N, shares_P)
        return losses_P.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        """The saved gradients, scaled."""
        users_PD, items_ND, offsets_N, shares_P = ctx.saved_tensors
        return grad_loss * users_PD, grad_loss * items_ND, grad_loss * offsets_N, -grad_loss * shares_P, None, None


class _Products:
    """The three products of a block of positions with all negatives."""

    def __init__(self, items_ND: Tensor) -> None:
        self._items_ND = items_ND
        self._items_DN = items_ND.T.contiguous()

    def logits(self, users: Tensor, offsets_N: Tensor, out: Tensor) -> Tensor:
        """Products and offsets."""
        return torch.addmm(offsets_N, users, self._items_DN, out=out)

    def add_gradients(
        self, weights: Tensor, users: Tensor, inverse: Tensor, grad_users: Tensor, grad_items: Tensor
    ) -> None:
        """Set the users' gradient and add to the items', from softmax weights times `inverse`."""
        torch.mul(weights @ self._items_ND, inverse[:, None], out=grad_users)
        grad_items.addmm_(weights.T, users * inverse[:, None])


class _HalfProducts:
    """The same in bfloat16, summed over blocks in float32."""

    def __init__(self, items_ND: Tensor) -> None:
        self._items_ND = items_ND.to(torch.bfloat16)
        self._items_DN = self._items_ND.T.contiguous()
        self._halves: Tensor | None = None

    def logits(self, users: Tensor, offsets_N: Tensor, out: Tensor) -> Tensor:
        """Products and offsets."""
        self._halves = torch.mm(users.to(torch.bfloat16), self._items_DN)
        return torch.add(self._halves, offsets_N, out=out)

    def add_gradients(
        self, weights: Tensor, users: Tensor, inverse: Tensor, grad_users: Tensor, grad_items: Tensor
    ) -> None:
        """Set the users' gradient and add to the items', from softmax weights times `inverse`."""
        assert self._halves is not None
        halves = self._halves.copy_(weights)
        torch.mul(halves @ self._items_ND, inverse[:, None], out=grad_users)
        grad_items.add_(halves.T @ (users * inverse[:, None]).to(torch.bfloat16))


def _all_near(users_PD: Tensor, items_ND: Tensor, offsets_N: Tensor, target_scores_P: Tensor) -> bool:
    """Is every score within NEAR of zero, by the lengths of the vectors.

    Two of four passes over the logits are saved; on a GPU they cost less than asking.
    """
    if users_PD.device.type != "cpu" or not users_PD.shape[0] or not items_ND.shape[0]:
        return False
    reach = users_PD.norm(dim=1).max() * items_ND.norm(dim=1).max() + offsets_N.abs().max()
    return bool(reach.maximum(target_scores_P.abs().max()) < NEAR)


def _leave_out(logits: Tensor, hits: Tensor) -> None:
    """Set the logit of each position's hit to -inf, without asking which positions have one."""
    columns = hits.clamp(min=0)[:, None]
    kept = logits.gather(1, columns).masked_fill_((hits >= 0)[:, None], -torch.inf)
    logits.scatter_(1, columns, kept)
