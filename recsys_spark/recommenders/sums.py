"""Sums of scores: what several recommenders say of a block of users becomes one [B, I], written once.

Whatever is added waits until the end. Then one product of all users' sides, laid side by side, with all catalogue sides
writes the sum: for all users at once, since a product of few rows with a catalogue mostly reads the catalogue. To that
are added matrices times factors and cells, some users' rows at a time, so few that they stay in the processor's cache.
Letters as in `batch`; N cells, C columns, Q kinds of items.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from recsys_spark.models.affinity import add_gathered

CELLS_AT_ONCE = 1 << 21
"""Cells of the sum that are added to at a time: 8 MB."""
MATRICES = 2
"""Matrices that wait at most; they are as large as the sum itself."""
JOINED_BYTES = 1 << 28
"""Largest size of catalogue sides that are laid side by side; larger ones are multiplied one after the other."""
JOINED_USERS = 64
"""Fewest users for whom it is worth while."""


class Sums:
    """Sums [B, I] of rows times factors. What is added must stay as it is until `total`."""

    def __init__(self, users: int, items: int) -> None:
        self._shape = (users, items)
        self._total: Tensor | None = None
        self._matrices: list[tuple[Tensor, Tensor]] = []
        self._columns: list[tuple[Tensor, Tensor, Tensor]] = []
        self._tables: list[tuple[Tensor, Tensor]] = []
        self._cells: list[tuple[Tensor, Tensor]] = []
        self._users: list[Tensor] = []
        self._sides: list[Tensor] = []
        self._factors: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._offsets: Tensor | None = None

    def add_product(self, users_BD: Tensor, items_ID: Tensor) -> None:
        """Add the product of two sides."""
        self._users.append(users_BD)
        self._sides.append(items_ID)

    def add_row(self, factors_B: Tensor, scores_I: Tensor) -> None:
        """Add one row of scores, times each user's factor."""
        self._factors.append(factors_B)
        self._rows.append(scores_I)

    def add_matrix(self, scores_BI: Tensor, factors_B: Tensor) -> None:
        """Add the rows of a matrix, times each user's factor."""
        if len(self._matrices) == MATRICES:
            self._total = self._made()
        self._matrices.append((scores_BI, factors_B))

    def add_columns(self, scores_BC: Tensor, columns_C: Tensor, factors_B: Tensor) -> None:
        """Add the rows of a matrix, times each user's factor, whose columns are those of the given codes."""
        self._columns.append((scores_BC, columns_C, factors_B))

    def add_gathered(self, table_BQ: Tensor, kind_I: Tensor) -> None:
        """Add to each user's row the numbers of a table of its own at each item's kind."""
        self._tables.append((table_BQ, kind_I))

    def add_cells(self, places_N: Tensor, scores_N: Tensor) -> None:
        """Add scores to cells, given by their places row x I + code; rows in ascending order, no place twice."""
        self._cells.append((places_N, scores_N))

    def add_offsets(self, offsets_B: Tensor) -> None:
        """Add a number to all of each user's row."""
        self._offsets = offsets_B if self._offsets is None else self._offsets + offsets_B

    def release(self) -> None:
        """Hold on to no matrix, columns or tables that were added."""
        if self._matrices or self._columns or self._tables:
            self._total = self._made()

    def total(self) -> Tensor:
        """The sums; nothing can be added afterwards."""
        if self._offsets is not None:
            self.add_row(self._offsets, _ones(self._shape[1]))
        return self._made()

    @torch.no_grad()
    def _made(self) -> Tensor:
        """The sum of all that waits and of what was made before; nothing waits any longer."""
        users, items = self._shape
        total = torch.empty(self._shape) if self._total is None else self._total
        begun = self._total is not None
        for users_BD, items_ID in self._products():
            if begun:
                total.addmm_(users_BD, items_ID.T)
            else:
                torch.mm(users_BD, items_ID.T, out=total)
            begun = True
        if not begun or self._matrices or self._columns or self._tables or self._cells:
            step = max(1, CELLS_AT_ONCE // max(items, 1))
            for start in range(0, users, step):
                some = slice(start, min(start + step, users))
                self._add(total[some], some, begun)
        for waiting in (self._matrices, self._columns, self._tables, self._cells):
            waiting.clear()
        for products_of in (self._users, self._sides, self._factors, self._rows):
            products_of.clear()
        return total

    def _add(self, rows_bI: Tensor, some: slice, begun: bool) -> None:
        """Add all but the products to some rows, which hold nothing yet unless they were begun."""
        for scores_BI, factors_B in self._matrices:
            if begun:
                rows_bI.addcmul_(scores_BI[some], factors_B[some, None])
            else:
                torch.mul(scores_BI[some], factors_B[some, None], out=rows_bI)
            begun = True
        if not begun:
            rows_bI.zero_()
        for scores_BC, columns_C, factors_B in self._columns:
            terms_bC = scores_BC[some] * factors_B[some, None]
            rows_bI.scatter_add_(1, columns_C.expand(terms_bC.shape), terms_bC)
        for table_BQ, kind_I in self._tables:
            add_gathered(rows_bI, table_BQ[some], kind_I)
        first = some.start * self._shape[1]
        for places_N, scores_N in self._cells:
            low, high = torch.searchsorted(places_N, torch.tensor([first, some.stop * self._shape[1]])).tolist()
            rows_bI.view(-1).scatter_add_(0, places_N[low:high] - first, scores_N[low:high])

    def _products(self) -> list[tuple[Tensor, Tensor]]:
        """All products, as one where the sides may be laid side by side."""
        width = sum(side.shape[1] for side in self._sides) + len(self._rows)
        if not width:
            return []
        several = len(self._sides) + len(self._rows) > 1
        if several and self._shape[0] >= JOINED_USERS and 4 * width * self._shape[1] <= JOINED_BYTES:
            rows_B1 = [factors_B[:, None] for factors_B in self._factors]
            return [(torch.cat([*self._users, *rows_B1], dim=1), _joined(*self._sides, *self._rows))]
        products = list(zip(self._users, self._sides, strict=True))
        if self._rows:
            products.append((torch.stack(self._factors, dim=1), torch.stack(self._rows, dim=1)))
        return products


@lru_cache(maxsize=2)
def _joined(*sides: Tensor) -> Tensor:
    """Catalogue sides [I, D] and rows [I] side by side: made once of the same tensors, which are known by identity."""
    return torch.cat([side if side.dim() == 2 else side[:, None] for side in sides], dim=1)


@lru_cache(maxsize=4)
def _ones(items: int) -> Tensor:
    return torch.ones(items)
