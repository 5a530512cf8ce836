"""Scores of a block of users that are not a matrix yet.

A fusion needs two things of a component: the mean and the deviation of each row, and its scores, each row times a
factor, added to a sum. Many recommenders give both without ever writing down their [B, I] scores: a product of two
sides has moments that follow from those of the catalogue's side, a sparse row is its few cells, and popularity is the
same row for everyone. Letters as in `batch`; N cells that are not zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recsys_spark.recommenders.sums import Sums

ITEMS_AT_ONCE = 1 << 14
"""Items whose second moments are added up at a time, in double precision."""
CELLS_AT_ONCE = 1 << 16
"""Cells of a matrix that are worked on at a time: 256 KB."""
LEAST_DEVIATION = 1e-12
"""Deviations are not below it; what a row without any is divided by."""
ROUNDING = 1e-6
"""What of a score may be rounding: a product's deviations are not below this share of its mean."""


class Form(ABC):
    """Scores of B users over I items, in whatever form they are."""

    can_score: Tensor
    """[B] bool: has the recommender anything to say about the user."""

    @abstractmethod
    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        """Mean and population standard deviation of each row over the catalogue, each [B, 1] float32."""

    @abstractmethod
    def add_to(self, sums: Sums, factors_B: Tensor) -> None:
        """Add each row, times its factor, to the sums. The form stays as it is."""

    @abstractmethod
    def of(self, rows: Tensor) -> Form:
        """The form of some users, given by their rows [b] int64."""

    @cached_property
    def matrix_BI(self) -> Tensor:  # noqa: N802 - its name carries its shape
        """The scores written out, rows of users that cannot be scored zero; not to be written into."""
        sums = Sums(self.can_score.numel(), self.num_items)
        self.add_to(sums, self.can_score.float())
        return sums.total()

    @property
    @abstractmethod
    def num_items(self) -> int:
        """Number of items I."""


@dataclass(frozen=True)
class Matrix(Form):
    """Scores written out."""

    scores_BI: Tensor
    """Float32; rows of users that cannot be scored are zero."""
    can_score: Tensor
    moments: tuple[Tensor, Tensor] | None = None
    """What `mean_and_deviation` says, where it was found as the scores were made."""

    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        """Of the scores as they stand."""
        return mean_and_deviation(self.scores_BI) if self.moments is None else self.moments

    def add_to(self, sums: Sums, factors_B: Tensor) -> None:
        """Add the rows."""
        sums.add_matrix(self.scores_BI, factors_B)

    def of(self, rows: Tensor) -> Matrix:
        """A copy of the rows."""
        return Matrix(self.scores_BI[rows], self.can_score[rows], _of(self.moments, rows))

    @cached_property
    def matrix_BI(self) -> Tensor:  # noqa: N802 - its name carries its shape
        """As they are."""
        return self.scores_BI

    @property
    def num_items(self) -> int:
        """Number of items I."""
        return int(self.scores_BI.shape[1])


@dataclass(frozen=True)
class Columns(Form):
    """Scores of some items, C of them, written out; all others have score 0."""

    scores_BC: Tensor
    """Float32; rows of users that cannot be scored are zero."""
    columns_C: Tensor
    """[C] int64, their codes, none twice."""
    items_in_all: int
    can_score: Tensor
    moments: tuple[Tensor, Tensor]
    """What `mean_and_deviation` says: found as the scores were made."""

    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        """Over the whole catalogue."""
        return self.moments

    def add_to(self, sums: Sums, factors_B: Tensor) -> None:
        """Add the columns where they stand."""
        sums.add_columns(self.scores_BC, self.columns_C, factors_B)

    def of(self, rows: Tensor) -> Columns:
        """A copy of the rows."""
        moments = (self.moments[0][rows], self.moments[1][rows])
        return Columns(self.scores_BC[rows], self.columns_C, self.items_in_all, self.can_score[rows], moments)

    @property
    def num_items(self) -> int:
        """Number of items I."""
        return self.items_in_all


class RunningMoments:
    """Means and deviations of rows that are made part by part, each part read while it is in the processor's cache."""

    def __init__(self, users: int) -> None:
        self._sums_B = torch.zeros(users, dtype=torch.float64)
        self._squares_B = torch.zeros(users, dtype=torch.float64)

    def add(self, scores_bC: Tensor, rows: slice = slice(None)) -> None:
        """Count in some columns of some rows."""
        self._sums_B[rows] += scores_bC.sum(dim=1).double()
        self._squares_B[rows] += torch.linalg.vector_norm(scores_bC, dim=1).double().square_()

    def over(self, items: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation [B, 1] float32 over so many items; those that were not counted in score 0."""
        mean_B = self._sums_B / items
        variance_B = self._squares_B / items - mean_B.square()
        deviation_B = variance_B.clamp_min_(LEAST_DEVIATION**2).sqrt_()
        return mean_B[:, None].float(), deviation_B[:, None].float()


class ItemSide:
    """The catalogue's side of a product: vectors, biases, and their moments, from which those of scores follow."""

    def __init__(self, items_ID: Tensor, biases_I: Tensor | None = None) -> None:
        self.items_ID = items_ID
        self.biases_I = biases_I

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [D + 1] and covariance [D + 1, D + 1] of the vectors with their biases behind, in double precision."""
        count, width = self.items_ID.shape
        mean = torch.cat([self.items_ID.mean(0, dtype=torch.float64), self._biases(slice(None)).mean(0)])
        covariance = torch.zeros(width + 1, width + 1, dtype=torch.float64)
        for start in range(0, count, ITEMS_AT_ONCE):
            some = slice(start, start + ITEMS_AT_ONCE)
            centred = torch.cat([self.items_ID[some].double(), self._biases(some)], dim=1) - mean
            covariance.addmm_(centred.T, centred)
        return mean, covariance.div_(count)

    def rows(self, codes_T: Tensor) -> Tensor:
        """[T, D + 1] float64: the vectors of some items with their biases behind."""
        biases_T = torch.zeros(len(codes_T)) if self.biases_I is None else self.biases_I[codes_T]
        return torch.cat([self.items_ID[codes_T], biases_T[:, None]], dim=1).double()

    def _biases(self, some: slice) -> Tensor:
        """[I, 1] float64 of some items."""
        if self.biases_I is None:
            return torch.zeros(len(self.items_ID[some]), 1, dtype=torch.float64)
        return self.biases_I[some, None].double()


@dataclass(frozen=True)
class Product(Form):
    """Scores that are the product of two sides, and a bias of the item."""

    users_BD: Tensor
    """Float32."""
    side: ItemSide
    can_score: Tensor

    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        """For x = (v_u, 1) and items y = (v_i, b_i): x . mean(y), and the root of x^T cov(y) x."""
        mean, covariance = self.side.moments
        users = torch.cat([self.users_BD.double(), torch.ones(len(self.users_BD), 1, dtype=torch.float64)], dim=1)
        variance = ((users @ covariance) * users).sum(1, keepdim=True)
        means = (users @ mean)[:, None]
        least = (means.abs() * ROUNDING).clamp_min_(LEAST_DEVIATION)
        return means.float(), torch.maximum(variance.clamp_min(0.0).sqrt(), least).float()

    def add_to(self, sums: Sums, factors_B: Tensor) -> None:
        """One product into the sum; the biases wait for the other rows."""
        sums.add_product(self.users_BD * factors_B[:, None], self.side.items_ID)
        if self.side.biases_I is not None:
            sums.add_row(factors_B, self.side.biases_I)

    def of(self, rows: Tensor) -> Product:
        """The users' side of some."""
        return Product(self.users_BD[rows], self.side, self.can_score[rows])

    @property
    def num_items(self) -> int:
        """Number of items I."""
        return int(self.side.items_ID.shape[0])


@dataclass(frozen=True)
class Cells(Form):
    """Scores that are zero but for some cells, in compressed sparse rows."""

    offsets: Tensor
    """[B + 1] int64: user b owns the cells offsets[b] to offsets[b + 1]."""
    items: Tensor
    """[N] int64, codes; none twice for a user."""
    scores: Tensor
    """[N] float32."""
    items_in_all: int
    can_score: Tensor

    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        """From the cells alone."""
        scores = self.scores.double()
        mean_B, square_B = (
            torch.segment_reduce(terms, "sum", offsets=self.offsets, unsafe=True) / self.items_in_all
            for terms in (scores, scores * scores)
        )
        variance_B = (square_B - mean_B * mean_B).clamp_min(LEAST_DEVIATION**2)
        return mean_B[:, None].float(), variance_B.sqrt()[:, None].float()

    def add_to(self, sums: Sums, factors_B: Tensor) -> None:
        """Add the cells where they stand."""
        users = torch.repeat_interleave(torch.arange(factors_B.numel()), self._lengths)
        sums.add_cells(users * self.items_in_all + self.items, self.scores * factors_B[users])

    def of(self, rows: Tensor) -> Cells:
        """The cells of some users."""
        lengths = self._lengths[rows]
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        shifts = torch.repeat_interleave(self.offsets[rows] - offsets[:-1], lengths)
        places = shifts + torch.arange(shifts.numel())
        return Cells(offsets, self.items[places], self.scores[places], self.items_in_all, self.can_score[rows])

    @property
    def num_items(self) -> int:
        """Number of items I."""
        return self.items_in_all

    @property
    def _lengths(self) -> Tensor:
        return self.offsets[1:] - self.offsets[:-1]


@dataclass(frozen=True)
class SameRow(Form):
    """The same scores for everyone."""

    scores_I: Tensor
    can_score: Tensor

    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        """Once for all."""
        mean, deviation = mean_and_deviation(self.scores_I[None])
        rows = self.can_score.numel()
        return mean.expand(rows, 1), deviation.expand(rows, 1)

    def add_to(self, sums: Sums, factors_B: Tensor) -> None:
        """The row waits for the other rows."""
        sums.add_row(factors_B, self.scores_I)

    def of(self, rows: Tensor) -> SameRow:
        """The same row for some."""
        return SameRow(self.scores_I, self.can_score[rows])

    @property
    def num_items(self) -> int:
        """Number of items I."""
        return int(self.scores_I.numel())


def mean_and_deviation(scores_BI: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of each row, each [B, 1]; faster than torch.std_mean on wide rows."""
    mean_B1 = scores_BI.mean(dim=1, keepdim=True)
    norm_B = torch.empty(len(mean_B1))
    for rows in portions(scores_BI):
        torch.linalg.vector_norm(scores_BI[rows] - mean_B1[rows], dim=1, out=norm_B[rows])
    return mean_B1, (norm_B[:, None] / scores_BI.shape[1] ** 0.5).clamp_min(LEAST_DEVIATION)


def _of(moments: tuple[Tensor, Tensor] | None, rows: Tensor) -> tuple[Tensor, Tensor] | None:
    return None if moments is None else (moments[0][rows], moments[1][rows])


def portions(matrix_BI: Tensor) -> list[slice]:
    """Some rows at a time: what is made of them in between then stays in the processor's cache."""
    rows, columns = matrix_BI.shape
    step = max(1, CELLS_AT_ONCE // max(columns, 1))
    return [slice(start, start + step) for start in range(0, rows, step)]
