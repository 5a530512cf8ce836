"""Generalised binary cross-entropy (Petrov and Macdonald 2023, gSASRec).

Of I - 1 other items K are drawn as negatives, a share alpha = K / (I - 1), so plain binary cross-entropy sees too few
of them and grows overconfident. gBCE raises the target's probability to a power beta:

    loss = -(beta log sigmoid(s_t) + sum_n log(1 - sigmoid(s_n))) / (K + 1)
    beta = alpha (t (1 - 1 / alpha) + 1 / alpha)

where t = 0 is plain cross-entropy (beta = 1) and t = 1 calibrates fully (beta = alpha). The optimum is a score of
log(beta p / alpha); here the constant log(beta / (alpha I)) is added to the scores inside the loss, so that the model's
own scores estimate log(I p(item | user)) as under the other losses, and the item biases start where they belong.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from recsys_spark.models.losses.pairs import pair_scores
from recsys_spark.models.losses.protocol import Scorer
from recsys_spark.models.step import Negatives


class GBCE:
    """The loss for a catalogue of I items and a calibration t in [0, 1]."""

    def __init__(self, num_items: int, calibration: float) -> None:
        self.num_items = num_items
        self.calibration = calibration

    def beta(self, draws: int) -> float:
        """The power of the target's probability where `draws` negatives are drawn uniformly."""
        return 1.0 - self.calibration * (1.0 - self.alpha(draws))

    def alpha(self, draws: int) -> float:
        """The share of the other items that is drawn."""
        return min(1.0, draws / max(1, self.num_items - 1))

    def __call__(
        self,
        scorer: Scorer,
        users_PD: Tensor,
        vectors_RD: Tensor,
        biases_R: Tensor,
        targets_P: Tensor,
        negatives: Negatives,
    ) -> Tensor:
        """Sum of the losses over positions; a negative that is the target by accident is left out."""
        draws = negatives.rows.shape[1]
        shift = math.log(self.beta(draws) / (self.alpha(draws) * self.num_items))
        target_P, negative_PK = pair_scores(scorer, users_PD, vectors_RD, biases_R, targets_P, negatives)
        losses_P = self.beta(draws) * F.softplus(-(target_P + shift)) + F.softplus(negative_PK + shift).sum(dim=1)
        return losses_P.sum() / (1 + draws)
