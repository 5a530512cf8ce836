"""Factors: items as vectors, users folded in from their histories by least squares (ALS).

For a user with the items j of weight w_j, n of them, the vector is x = A^-1 sum_j (1 + alpha w_j) y_j with
A = Y^T Y + sum_j alpha w_j y_j y_j^T + n reg I (Hu, Koren and Volinsky 2008; the factor n is MLlib's). A batch costs
N D^2 for the sums and B D^3 / 3 for the factorisations. Letters as in `batch`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle, write_bundle
from recsys_spark.recommenders.decayed import HistoryItems, decayed_items
from recsys_spark.recommenders.forms import Form, ItemSide, Product
from recsys_spark.recommenders.occlusion import shares_of

CELLS_AT_ONCE = 1 << 22
"""Numbers of a portion's padded histories and normal equations: 8 bytes each."""


@dataclass(frozen=True)
class Portion:
    """The normal equations of b users, in double precision: the items' Gram matrix outweighs single histories."""

    users: Tensor
    """[b] int64, rows of the batch."""
    items_bL: Tensor
    """[b, L] int64 codes of their items, -1 behind the end."""
    vectors_bLD: Tensor
    """[b, L, D] the items' vectors, zeros behind the end."""
    weights_bL: Tensor
    """[b, L] right side's weights 1 + alpha w_j, zeros behind the end."""
    cholesky_bDD: Tensor
    """[b, D, D] lower factors of A."""


class Factors(Recommender):
    """Scores items by the product of their vector with the user's, which is solved for from the history."""

    kind: ClassVar[str] = "factors"

    def __init__(
        self,
        name: str,
        vectors_ID: Tensor,
        gram_DD: Tensor,
        reg: float,
        alpha: float,
        half_life_days: float | None,
    ) -> None:
        """`vectors_ID` [I, D] float32, zeros for an item without one; `gram_DD` Y^T Y [D, D] float64."""
        super().__init__(name, int(vectors_ID.shape[0]))
        self.vectors_ID = vectors_ID
        self.gram_DD = gram_DD
        self.reg = reg
        self.alpha = alpha
        self.half_life_days = half_life_days
        self.has_vector_I = vectors_ID.any(1)

    def score(self, batch: UserBatch) -> Scores:
        """Scores of all items; users none of whose items has a vector cannot be scored."""
        history = self._history(batch)
        return Scores(scores=self.users(batch) @ self._side.items_ID.T, can_score=history.known)

    def form(self, batch: UserBatch) -> Form:
        """A product of two sides."""
        history = self._history(batch)
        return Product(self.users(batch), self._side, history.known)

    @cached_property
    def _side(self) -> ItemSide:
        """What items are scored by. Online learning moves it; histories are folded in by `vectors_ID` all the same."""
        return ItemSide(self.vectors_ID)

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Scores of the given items."""
        users_BD = self.users(batch)
        return torch.bmm(self._side.items_ID[items_BK], users_BD[:, :, None])[:, :, 0]

    @property
    def item_vectors(self) -> Tensor:
        """The vectors [I, D]."""
        return self.vectors_ID

    def users(self, batch: UserBatch) -> Tensor:
        """User vectors [B, D]; zeros for users who cannot be scored."""
        return batch.once((self, "users"), lambda: self._solve(self._history(batch)))

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        """Kind `because_of`: the history item j with the largest positive part (1 + alpha w_j) y_i A^-1 y_j.

        The parts add up to the score (Hu, Koren and Volinsky 2008, section 5). Of equals the item with the smaller
        code. A depends on the history too, so leaving j out takes another amount away than its part: the share is what
        solving again without j says. A without j is (A - reg I) - alpha w_j y_j y_j^T, whose inverse follows from that
        of A - reg I (Sherman and Morrison 1950): one more factorisation a user, whatever the number of items named.
        """
        items, shares = torch.full_like(items_BK, -1), torch.full(items_BK.shape, torch.nan)
        for part in self._portions(self._history(batch), extra=4 * items_BK.shape[1]):
            wanted_bKD = self._side.items_ID[items_BK[part.users]].double()
            solved_bDK = torch.cholesky_solve(wanted_bKD.transpose(1, 2), part.cholesky_bDD)
            parts_bLK = part.weights_bL[:, :, None] * torch.bmm(part.vectors_bLD, solved_bDK)
            largest_bK, place_bK = parts_bLK.max(1)
            items[part.users] = torch.where(largest_bK > 0, part.items_bL.gather(1, place_bK), -1)
            scores_bK = parts_bLK.sum(1)
            rest_bK = self._without(part, wanted_bKD, place_bK)
            alone_b = (part.items_bL >= 0).sum(1) == 1
            shares[part.users] = shares_of(scores_bK, rest_bK, alone_b[:, None]).float()
        shares.masked_fill_(items < 0, torch.nan)
        return Evidence("because_of", items, torch.full(items_BK.shape, torch.nan), shares=shares)

    def _without(self, part: Portion, wanted_bKD: Tensor, place_bK: Tensor) -> Tensor:
        """[b, K] scores of the items with vectors `wanted` by histories without the item at the given places."""
        eye_DD = self.reg * torch.eye(wanted_bKD.shape[2], dtype=torch.float64)
        alone_b = (part.items_bL >= 0).sum(1) == 1  # then nothing is left, and any solvable matrix will do
        normal_bDD = part.cholesky_bDD @ part.cholesky_bDD.transpose(1, 2) - eye_DD * ~alone_b[:, None, None]
        factor_bDD = torch.linalg.cholesky(normal_bDD)
        named_bKD = part.vectors_bLD.gather(1, place_bK[:, :, None].expand(-1, -1, wanted_bKD.shape[2]))
        weight_bK = part.weights_bL.gather(1, place_bK)  # 1 + alpha w_j
        right_bD = torch.einsum("bld,bl->bd", part.vectors_bLD, part.weights_bL)
        right_bKD = right_bD[:, None, :] - weight_bK[:, :, None] * named_bKD
        solved_wanted_bKD = torch.cholesky_solve(wanted_bKD.transpose(1, 2), factor_bDD).transpose(1, 2)
        solved_named_bKD = torch.cholesky_solve(named_bKD.transpose(1, 2), factor_bDD).transpose(1, 2)
        extra_bK = weight_bK - 1
        across_bK = (solved_wanted_bKD * named_bKD).sum(2)
        correction_bK = extra_bK * across_bK * (solved_named_bKD * right_bKD).sum(2)
        lost_bK = 1 - extra_bK * (solved_named_bKD * named_bKD).sum(2)
        return (solved_wanted_bKD * right_bKD).sum(2) + correction_bK / lost_bK

    def _history(self, batch: UserBatch) -> HistoryItems:
        return batch.once((self, "history"), lambda: self._read(batch))

    def _read(self, batch: UserBatch) -> HistoryItems:
        history = decayed_items(batch, self.num_items, self.half_life_days or math.inf)
        return history.keep(self.has_vector_I[history.items])

    def _solve(self, history: HistoryItems) -> Tensor:
        users_BD = torch.zeros(int(history.offsets.numel()) - 1, self.vectors_ID.shape[1])
        for part in self._portions(history):
            right_bD1 = torch.bmm(part.vectors_bLD.transpose(1, 2), part.weights_bL[:, :, None])
            users_BD[part.users] = torch.cholesky_solve(right_bD1, part.cholesky_bDD)[:, :, 0].float()
        return users_BD

    def _portions(self, history: HistoryItems, extra: int = 0) -> Iterator[Portion]:
        """The normal equations of users with histories of like length, a bounded number of cells at a time.

        `extra` numbers beside each item of a history count too, twice.
        """
        lengths = history.offsets[1:] - history.offsets[:-1]
        order = torch.argsort(lengths, stable=True)
        order = order[lengths[order] > 0]
        dim = int(self.vectors_ID.shape[1])
        start = 0
        for end, longest in enumerate([*lengths[order].tolist(), math.inf]):
            if end > start and (end - start + 1) * (2 * longest * (dim + extra) + 3 * dim * dim) > CELLS_AT_ONCE:
                yield self._portion(history, order[start:end], lengths)
                start = end

    def _portion(self, history: HistoryItems, users: Tensor, lengths: Tensor) -> Portion:
        steps_L = torch.arange(int(lengths[users].max()))
        inside_bL = steps_L < lengths[users][:, None]
        places_bL = (history.offsets[users][:, None] + steps_L).clamp(max=history.items.numel() - 1)
        items_bL = history.items[places_bL]
        extra_bL = self.alpha * history.weights[places_bL].double() * inside_bL
        vectors_bLD = self.vectors_ID[items_bL].double() * inside_bL[:, :, None]
        normal_bDD = torch.baddbmm(self.gram_DD, (vectors_bLD * extra_bL[:, :, None]).transpose(1, 2), vectors_bLD)
        normal_bDD.diagonal(dim1=1, dim2=2).add_(self.reg * lengths[users][:, None])
        return Portion(
            users=users,
            items_bL=items_bL.masked_fill(~inside_bL, -1),
            vectors_bLD=vectors_bLD,
            weights_bL=(1 + extra_bL) * inside_bL,
            cholesky_bDD=torch.linalg.cholesky(normal_bDD),
        )

    def save(self, path: Path, vocabulary: Path) -> None:
        """Write the bundle."""
        config = {
            "kind": self.kind,
            "name": self.name,
            "num_items": self.num_items,
            "reg": self.reg,
            "alpha": self.alpha,
            "half_life_days": self.half_life_days,
        }
        write_bundle(path, config, {"vectors": self.vectors_ID, "gram": self.gram_DD}, vocabulary)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle."""
        config = bundle.config
        half_life = config["half_life_days"]
        return cls(
            str(config["name"]),
            bundle.tensors["vectors"],
            bundle.tensors["gram"],
            float(config["reg"]),
            float(config["alpha"]),
            None if half_life is None else float(half_life),
        )
