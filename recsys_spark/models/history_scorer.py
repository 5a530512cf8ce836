"""Scores the catalogue for users given by packed histories: what early stopping and the recommender share."""

from __future__ import annotations

from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from recsys_spark.models.packed import History
from recsys_spark.models.user_side import UserSide


class HistoryScorer:
    """A trained model at rest: user side and scorer in evaluation mode, item vectors and item side computed once."""

    def __init__(
        self,
        user_side: UserSide,
        scorer: nn.Module,
        vectors_ID: Tensor,
        biases_I: Tensor,
        side_ID: Tensor | None = None,
    ) -> None:
        """`vectors_ID` has I + 1 rows, row 0 being the padding; `side_ID` is the scorer's item side where stored."""
        self.user_side = user_side
        self.scorer = scorer
        self.vectors_ID = vectors_ID
        self.biases_I = biases_I
        with torch.no_grad():
            self.side_ID = scorer.item_side(vectors_ID[1:]) if side_ID is None else side_ID

    @torch.no_grad()
    def users(self, tokens_P: Tensor, history: History) -> Tensor:
        """Users' sides [B, D] after the last position of each row.

        The encoders are left in the mode they are in: the caller sets `eval()`.
        """
        users_BD: Tensor = self.scorer.user_side(self.user_side.last(tokens_P, self.vectors_ID, history))
        return users_BD

    @torch.no_grad()
    def matrix(self, users_BD: Tensor) -> Tensor:
        """Scores [B, I] of every item for user sides."""
        scores_BI: Tensor = self.scorer.matrix(users_BD, self._laid_out_ID)
        return scores_BI.add_(self.biases_I)

    @cached_property
    def _laid_out_ID(self) -> Tensor:  # noqa: N802 - its name carries its shape
        return cast(Tensor, self.scorer.laid_out(self.side_ID))

    @torch.no_grad()
    def pairs(self, users_BD: Tensor, codes_BK: Tensor) -> Tensor:
        """Scores [B, K] of given item codes for user sides."""
        items_BKD = self.side_ID.index_select(0, codes_BK.flatten()).view(*codes_BK.shape, -1)
        scores_BK: Tensor = self.scorer.pairs(users_BD, items_BKD)
        return scores_BK.add_(self.biases_I[codes_BK])
