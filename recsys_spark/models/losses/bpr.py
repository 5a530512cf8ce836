"""Bayesian personalised ranking (Rendle et al. 2009): the target above each negative drawn for its position."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from recsys_spark.models.losses.pairs import pair_scores
from recsys_spark.models.losses.protocol import Scorer
from recsys_spark.models.step import Negatives


def bpr_loss(
    scorer: Scorer, users_PD: Tensor, vectors_RD: Tensor, biases_R: Tensor, targets_P: Tensor, negatives: Negatives
) -> Tensor:
    """Sum over positions of the mean over K negatives of -log sigmoid(s_t - s_n), scores corrected for their draws.

    With uniform draws the correction falls out. Without it, draws by popularity would teach how much more an item is
    chosen than it is popular, and the ranking would miss the popular ones. A negative that is the target by accident
    is left out.
    """
    target_P, negative_PK = pair_scores(scorer, users_PD, vectors_RD, biases_R, targets_P, negatives)
    assert negatives.target_log_weight_P is not None
    ahead_PK = (target_P + negatives.target_log_weight_P)[:, None] - (negative_PK + negatives.log_weight)
    return F.softplus(-ahead_PK).sum() / negatives.rows.shape[1]
