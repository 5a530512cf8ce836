"""Binary cross-entropy of the target against negatives drawn for each position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_spark.models.losses.protocol import Scorer
from recsys_spark.models.step import Negatives


def bce_loss(
    scorer: Scorer, users_PD: Tensor, vectors_RD: Tensor, biases_R: Tensor, targets_P: Tensor, negatives: Negatives
) -> Tensor:
    """Sum over positions of the mean over target and K negatives of the logistic loss of the corrected scores.

    A negative that is the target by accident is left out.
    """
    rows_PK = torch.cat((targets_P[:, None], negatives.rows), dim=1)
    assert negatives.target_log_weight_P is not None
    log_weight_PK = torch.cat((negatives.target_log_weight_P[:, None], negatives.log_weight), dim=1)
    items_RD = scorer.item_side(vectors_RD)
    items_PKD = F.embedding(rows_PK, items_RD)
    biases_PK = F.embedding(rows_PK, biases_R[:, None]).squeeze(2)
    logits_PK = scorer.pairs(scorer.user_side(users_PD), items_PKD) + biases_PK + log_weight_PK
    signs_K = -torch.ones(rows_PK.shape[1], device=logits_PK.device)
    signs_K[0] = 1.0
    losses_PK = F.softplus(-logits_PK * signs_K)
    hits_PK = negatives.rows == targets_P[:, None]
    losses_PK = torch.cat((losses_PK[:, :1], losses_PK[:, 1:].masked_fill(hits_PK, 0.0)), dim=1)
    return losses_PK.sum() / rows_PK.shape[1]
