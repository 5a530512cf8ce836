"""Binary cross-entropy of the target against negatives drawn for each position."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from recsys_spark.models.losses.pairs import pair_scores
from recsys_spark.models.losses.protocol import Scorer
from recsys_spark.models.step import Negatives


def bce_loss(
    scorer: Scorer, users_PD: Tensor, vectors_RD: Tensor, biases_R: Tensor, targets_P: Tensor, negatives: Negatives
) -> Tensor:
    """Sum over positions of the mean over target and K negatives of the logistic loss of the corrected scores.

    A negative that is the target by accident is left out.
    """
    target_P, negative_PK = pair_scores(scorer, users_PD, vectors_RD, biases_R, targets_P, negatives)
    assert negatives.target_log_weight_P is not None
    losses_P = F.softplus(-(target_P + negatives.target_log_weight_P))
    losses_P = losses_P + F.softplus(negative_PK + negatives.log_weight).sum(dim=1)
    return losses_P.sum() / (1 + negatives.rows.shape[1])
