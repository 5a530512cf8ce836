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


class Sums:
    """Sums [B, I] of rows times factors.

    Rows that are the same for all users wait until the end, where they are added together in one product.
    """

    def __init__(self, users: int, items: int) -> None:
        self._shape = (users, items)
        self._total: Tensor | None = None
        self._factors: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._offsets: Tensor | None = None

    def add_product(self, users_BD: Tensor, items_ID: Tensor) -> None:
        """Add the product of two sides."""
        if self._total is None:
            self._total = users_BD @ items_ID.T
        else:
            self._total.addmm_(users_BD, items_ID.T)

    def add_row(self, factors_B: Tensor, scores_I: Tensor) -> None:
        """Add one row of scores, times each user's factor."""
        self._factors.append(factors_B)
        self._rows.append(scores_I)

    def add_matrix(self, scores_BI: Tensor, factors_B: Tensor) -> None:
        """Add the rows of a matrix, times each user's factor."""
        if self._total is None:
            self._total = scores_BI * factors_B[:, None]
            return
        for rows in portions(scores_BI):
            self._total[rows] += scores_BI[rows] * factors_B[rows, None]

    def add_cells(self, places_N: Tensor, scores_N: Tensor) -> None:
        """Add scores to cells, given by their places row x I + code; no place twice."""
        if self._total is None:
            self._total = torch.zeros(self._shape)
        self._total.view(-1).scatter_add_(0, places_N, scores_N)

    def add_offsets(self, offsets_B: Tensor) -> None:
        """Add a number to all of each user's row."""
        self._offsets = offsets_B if self._offsets is None else self._offsets + offsets_B

    def total(self) -> Tensor:
        """The sums; nothing can be added afterwards."""
        if self._offsets is not None:
            self.add_row(self._offsets, torch.ones(self._shape[1]))
        if self._rows:
            self.add_product(torch.stack(self._factors, dim=1), torch.stack(self._rows).T)
        return torch.zeros(self._shape) if self._total is None else self._total


@dataclass(frozen=True)
class Matrix(Form):
    """Scores written out."""

    scores_BI: Tensor
    """Float32; rows of users that cannot be scored are zero."""
    can_score: Tensor

    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        """Of the scores as they stand."""
        return mean_and_deviation(self.scores_BI)

    def add_to(self, sums: Sums, factors_B: Tensor) -> None:
        """Add the rows."""
        sums.add_matrix(self.scores_BI, factors_B)

    def of(self, rows: Tensor) -> Matrix:
        """A copy of the rows."""
        return Matrix(self.scores_BI[rows], self.can_score[rows])

    @cached_property
    def matrix_BI(self) -> Tensor:  # noqa: N802 - its name carries its shape
        """As they are."""
        return self.scores_BI

    @property
    def num_items(self) -> int:
        """Number of items I."""
        return int(self.scores_BI.shape[1])


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


def portions(matrix_BI: Tensor) -> list[slice]:
    """Some rows at a time: what is made of them in between then stays in the processor's cache."""
    rows, columns = matrix_BI.shape
    step = max(1, CELLS_AT_ONCE // max(columns, 1))
    return [slice(start, start + step) for start in range(0, rows, step)]
