"""A product of two sides plus a number for each user and kind of item, as a form: nothing of size [B, I] is kept.

The moments of a row x . y_i + t_q(i), with y_i the item's vector and bias and q(i) its kind, follow from those of the
items' side and from the sums of its vectors by kind. Letters as in `forms`; Q kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recsys_spark.recommenders.forms import LEAST_DEVIATION, ROUNDING, Form, ItemSide, Product, Sums


class KindMoments:
    """Which kind each item is of, and what that has to do with its vector."""

    def __init__(self, side: ItemSide, kind_I: Tensor) -> None:
        self.side = side
        self.kind_I = kind_I

    @cached_property
    def shares_Q(self) -> Tensor:  # noqa: N802 - its name carries its shape
        """[Q] float64: the share of the catalogue that is of each kind."""
        return torch.bincount(self.kind_I).double() / max(1, self.kind_I.numel())

    @cached_property
    def covariance_QE(self) -> Tensor:  # noqa: N802 - its name carries its shape
        """[Q, D + 1] float64: covariance over the catalogue of being of a kind with vector and bias."""
        count, width = self.side.items_ID.shape
        sums = torch.zeros(self.shares_Q.numel(), width + 1, dtype=torch.float64)
        sums[:, :width].index_add_(0, self.kind_I, self.side.items_ID.double())
        if self.side.biases_I is not None:
            sums[:, width].index_add_(0, self.kind_I, self.side.biases_I.double())
        return sums / max(1, count) - torch.outer(self.shares_Q, self.side.moments[0])


@dataclass(frozen=True)
class AttributedProduct(Form):
    """Scores that are a product, and what a user's table says of the item's kind."""

    own: Product
    table_BQ: Tensor
    """[B, Q] float32."""
    kinds: KindMoments

    @property
    def can_score(self) -> Tensor:
        """[B] bool, as the product says."""
        return self.own.can_score

    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        """Means add up; the variance is that of the product, that of the table, and twice their covariance."""
        means, deviations = (values.double() for values in self.own.mean_and_deviation())
        table_BQ, shares_Q = self.table_BQ.double(), self.kinds.shares_Q
        users = torch.cat([self.own.users_BD.double(), torch.ones(len(table_BQ), 1, dtype=torch.float64)], dim=1)
        mean_B = table_BQ @ shares_Q
        variance_B = (table_BQ - mean_B[:, None]).square() @ shares_Q
        shared_B = ((users @ self.kinds.covariance_QE.T) * table_BQ).sum(dim=1)
        means = means + mean_B[:, None]
        variance = deviations.square() + (variance_B + 2.0 * shared_B)[:, None]
        least = (means.abs() * ROUNDING).clamp_min_(LEAST_DEVIATION)
        return means.float(), torch.maximum(variance.clamp_min(0.0).sqrt(), least).float()

    def add_to(self, sums: Sums, factors_B: Tensor) -> None:
        """The product, then each user's numbers row by row."""
        self.own.add_to(sums, factors_B)
        sums.add_gathered(self.table_BQ * factors_B[:, None], self.kinds.kind_I)

    def of(self, rows: Tensor) -> AttributedProduct:
        """The same of some users."""
        return AttributedProduct(self.own.of(rows), self.table_BQ[rows], self.kinds)

    @property
    def num_items(self) -> int:
        """Number of items I."""
        return self.own.num_items
