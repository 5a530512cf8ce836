"""Early stopping's measure: NDCG@K on the valid users, ranking the whole catalogue, repeats allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from recsys_spark.models.history_scorer import HistoryScorer
from recsys_spark.training.processes import Processes

VALID_COLUMNS = ("items", "length", "targets", "target_count", "row_weight")


def mean_ndcg(
    scorer: HistoryScorer, batches: Iterable[Mapping[str, Tensor]], k: int, processes: Processes, block_bytes: int
) -> float | None:
    """The mean NDCG@K over the valid users of all processes, each process having gone through its own batches.

    None where there are no valid users. `block_bytes` bounds the scores [B, I] that are held at once.
    """
    gained, users = 0.0, 0.0
    rows = max(1, block_bytes // (4 * scorer.biases_I.numel()))
    for batch in batches:
        real_B = torch.as_tensor(batch["row_weight"]) > 0
        tokens_BL, lengths_B, targets_BT, counts_B = (
            torch.as_tensor(batch[name])[real_B].to(processes.device, torch.int64) for name in VALID_COLUMNS[:4]
        )
        for start in range(0, tokens_BL.shape[0], rows):
            block = slice(start, start + rows)
            ndcg_B = _ndcg(scorer, tokens_BL[block], lengths_B[block], targets_BT[block], counts_B[block], k)
            gained += float(ndcg_B.sum())
            users += ndcg_B.numel()
    gained, users = processes.total(gained, users)
    return gained / users if users else None


@torch.no_grad()
def _ndcg(
    scorer: HistoryScorer, tokens_BL: Tensor, lengths_B: Tensor, targets_BT: Tensor, counts_B: Tensor, k: int
) -> Tensor:
    """NDCG@K [B] of distinct target tokens [B, T] padded with 0; the ideal puts min(K, targets) of them first."""
    scores_BI = scorer.matrix(scorer.users(tokens_BL, lengths_B))
    top_BK = scores_BI.topk(min(k, scores_BI.shape[1]), dim=1).indices + 1
    hits_BK = (top_BK[:, :, None] == targets_BT[:, None, :]).any(dim=2)
    discounts_K = 1.0 / torch.log2(torch.arange(k, device=scores_BI.device, dtype=torch.float64) + 2.0)
    gains_B = (hits_BK * discounts_K[: top_BK.shape[1]]).sum(dim=1)
    return gains_B / discounts_K.cumsum(0)[counts_B.clamp(min=1, max=k) - 1]
