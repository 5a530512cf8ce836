"""Item-item by neighbours: r_ui = sum over the user's items j of h_uj W_ji, with a sparse W. `ease` has a dense one.

h_uj is the decayed weight of item j in the user's history, at most 1: what was bought ten times is one interest, not
ten. Letters as in `batch`; N are the distinct (user, item) pairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle, write_bundle
from recsys_spark.recommenders.decayed import HistoryItems, decayed_items
from recsys_spark.recommenders.forms import Cells, Form, Matrix, RunningMoments

MOST_WEIGHT = 1.0
"""Most weight of one item in a history."""
TERMS_AT_ONCE = 1 << 22
"""Terms h_uj W_ji of a sparse W that are held at a time: some 30 bytes each."""
CELLS_AT_ONCE = 1 << 25
"""Cells of the (user, item) lookup that are held at a time: 4 bytes each."""
NEIGHBOURS_WORTH = 16
"""A sparse W's rows are written out where the catalogue is smaller than this many times the terms of a user."""
WRITTEN_AT_ONCE = 3 << 18
"""Cells of such rows that are made at a time: 3 MB, which stay in the processor's cache."""
FEW = 16
"""Fewer users are not worth the effort."""


class NeighbourItems(Recommender):
    """Item-item with a sparse W: the neighbours of each item, in compressed sparse rows."""

    kind: ClassVar[str] = "item_item"
    tensor_names: ClassVar[tuple[str, ...]] = ("indptr", "neighbours", "similarities")
    """What a bundle holds besides its configuration: attributes, and arguments, of these names."""

    def __init__(
        self, name: str, indptr: Tensor, neighbours: Tensor, similarities: Tensor, half_life_days: float
    ) -> None:
        """Item j's stand at indptr[j] to indptr[j+1] of `neighbours` (int32 codes) and `similarities` (float32)."""
        super().__init__(name, int(indptr.numel()) - 1)
        self.indptr = indptr
        self.neighbours = neighbours
        self.similarities = similarities
        self.half_life_days = half_life_days

    def score(self, batch: UserBatch) -> Scores:
        """Scores of all items; users none of whose items has a neighbour cannot be scored."""
        history = self._history(batch)
        scores = torch.zeros(batch.size, self.num_items)
        flat = scores.view(-1)
        for entries in self._portions(history):
            owner, cells, terms = self._terms(history, entries)
            first_cells = history.users * self.num_items
            flat.index_add_(0, first_cells.index_select(0, owner).add_(cells), terms)
        return Scores(scores=scores, can_score=history.known)

    def form(self, batch: UserBatch) -> Form:
        """The cells that the rows of W fill; the rows written out where they fill much of them."""
        history = self._history(batch)
        terms = NEIGHBOURS_WORTH * history.items.numel() * self.neighbours.numel() // max(1, self.num_items)
        if batch.size >= FEW and batch.size * self.num_items < terms and torch.backends.mkl.is_available():
            return self._written(history, batch.size)
        entries = (history.weights.numpy(), history.items.numpy(), history.offsets.numpy())
        filled = csr_matrix(entries, shape=(batch.size, self.num_items)) @ self._sparse
        offsets, items = (torch.from_numpy(codes.astype(np.int64)) for codes in (filled.indptr, filled.indices))
        return Cells(offsets, items, torch.from_numpy(filled.data), self.num_items, history.known)

    def _written(self, history: HistoryItems, size: int) -> Form:
        """H W [B, I] by MKL's product of two sparse matrices, some users at a time."""
        scores = torch.empty(size, self.num_items)
        moments = RunningMoments(size)
        items, step = history.items.int(), max(1, WRITTEN_AT_ONCE // self.num_items)
        for start in range(0, size, step):
            some = slice(start, min(start + step, size))
            offsets = history.offsets[start : some.stop + 1]
            own = slice(int(offsets[0]), int(offsets[-1]))
            part = _sparse_rows((offsets - offsets[0]).int(), items[own], history.weights[own], self.num_items)
            rows = scores[some]
            torch.addmm(rows, part, self._mkl, beta=0, out=rows)
            moments.add(rows, some)
        return Matrix(scores, history.known, moments.over(self.num_items))

    @cached_property
    def _mkl(self) -> Tensor:
        """W as torch has it."""
        return _sparse_rows(self.indptr.int(), self.neighbours.int(), self.similarities, self.num_items)

    @cached_property
    def _sparse(self) -> csr_matrix:
        """W as SciPy has it: it multiplies sparse matrices, each sum of a row once."""
        entries = (self.similarities.numpy(), self.neighbours.numpy(), self.indptr.numpy())
        return csr_matrix(entries, shape=(self.num_items, self.num_items))

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Scores of the given items: the terms of all others are passed over."""
        history = self._history(batch)
        pairs, place_BK = self._pairs(items_BK)
        sums = torch.zeros(pairs.numel())
        for slot, _, terms in self._matching(history, pairs):
            sums.index_add_(0, slot, terms)
        return sums[place_BK]

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        """Kind `bought_with`: the history item with the largest term h_uj W_ji; of equals the smaller code.

        The terms add up to the score, so an item's share is its term over the score.
        """
        history = self._history(batch)
        pairs, place_BK = self._pairs(items_BK)
        largest, sums = torch.zeros(pairs.numel()), torch.zeros(pairs.numel())
        speaker = torch.full((pairs.numel(),), -1, dtype=torch.int64)
        for slot, owner, terms in self._matching(history, pairs):
            sums.index_add_(0, slot, terms)
            largest.scatter_reduce_(0, slot, terms, "amax")
            best = terms == largest[slot]
            first = torch.full_like(speaker, history.items.numel())
            first.scatter_reduce_(0, slot[best], owner[best], "amin")
            speaker = torch.where(first < history.items.numel(), first, speaker)
        items = torch.cat([history.items, torch.tensor([-1])])[speaker]  # speaker -1 is the last: no item
        shares = torch.where(speaker >= 0, largest / sums.abs(), torch.nan)
        values = torch.full(items_BK.shape, torch.nan)
        return Evidence("bought_with", items[place_BK], values, shares=shares[place_BK])

    def _history(self, batch: UserBatch) -> HistoryItems:
        return batch.once((self, "history"), lambda: self._read(batch))

    def _read(self, batch: UserBatch) -> HistoryItems:
        history = decayed_items(batch, self.num_items, self.half_life_days, MOST_WEIGHT)
        return history.keep(self.indptr[history.items + 1] > self.indptr[history.items])

    def _portions(self, history: HistoryItems) -> Iterator[slice]:
        """Spans of history entries, whole users each, of bounded numbers of terms (one user may exceed them)."""
        sizes = self.indptr[history.items + 1] - self.indptr[history.items]
        before = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(sizes, 0)])[history.offsets].tolist()
        offsets = history.offsets.tolist()
        most_users = max(1, CELLS_AT_ONCE // self.num_items)
        start = 0
        for user in range(1, len(offsets)):
            full = user - start == most_users or user == len(offsets) - 1
            if full or before[user + 1] - before[start] > TERMS_AT_ONCE:
                yield slice(offsets[start], offsets[user])
                start = user

    def _terms(self, history: HistoryItems, entries: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Of the history entries: (entry int64, neighbour's code int32, term h_uj W_ji float32), each [terms]."""
        items = history.items[entries]
        starts = self.indptr[items]
        sizes = self.indptr[items + 1] - starts
        owner = torch.repeat_interleave(torch.arange(items.numel()), sizes)
        shift = starts - torch.cumsum(sizes, 0) + sizes
        place = shift.index_select(0, owner).add_(torch.arange(owner.numel()))
        owner += entries.start
        # index_select: four times as fast as brackets at these sizes
        terms = history.weights.index_select(0, owner).mul_(self.similarities.index_select(0, place))
        return owner, self.neighbours.index_select(0, place), terms

    def _pairs(self, items_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct keys user x I + item, ascending, and where each pair of `items_BK` stands among them."""
        keys = torch.arange(items_BK.shape[0])[:, None] * self.num_items + items_BK
        pairs, place = torch.unique(keys, return_inverse=True)
        return pairs, place

    def _matching(self, history: HistoryItems, pairs: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Portions of the terms that fall on the wanted pairs: (position in `pairs`, history entry, term)."""
        for entries in self._portions(history):
            if entries.start == entries.stop:
                continue
            first, last = int(history.users[entries.start]), int(history.users[entries.stop - 1])
            low, high = torch.searchsorted(
                pairs, torch.tensor([first * self.num_items, (last + 1) * self.num_items])
            ).tolist()
            slots = torch.full(((last + 1 - first) * self.num_items,), -1, dtype=torch.int32)
            slots[pairs[low:high] - first * self.num_items] = torch.arange(low, high, dtype=torch.int32)
            owner, cells, terms = self._terms(history, entries)
            first_cells = (history.users - first) * self.num_items
            slot = slots.index_select(0, first_cells.index_select(0, owner).add_(cells))
            wanted = slot >= 0
            yield slot[wanted].long(), owner[wanted], terms[wanted]

    def save(self, path: Path, vocabulary: Path) -> None:
        """Write the bundle."""
        config = {
            "kind": self.kind,
            "name": self.name,
            "num_items": self.num_items,
            "half_life_days": self.half_life_days,
        }
        write_bundle(path, config, self._tensors(), vocabulary)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle."""
        tensors = {name: bundle.tensors[name] for name in cls.tensor_names}
        return cls(str(bundle.config["name"]), half_life_days=float(bundle.config["half_life_days"]), **tensors)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.tensor_names}


def _sparse_rows(offsets: Tensor, items: Tensor, values: Tensor, num_items: int) -> Tensor:
    """Compressed sparse rows of a matrix with a column an item, int32 codes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)  # it says so once a process
        size = (offsets.numel() - 1, num_items)
        return torch.sparse_csr_tensor(offsets, items, values, size=size, check_invariants=False)
