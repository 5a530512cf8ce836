"""Candidates of a block of users: the union of several recommenders' best items.

Both the best items and the best that the history does not hold are candidates: where repeats are dropped the former may
all fall away. Legend: B users, I items, C candidates (padded), T proposals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.fusion.topk import stable_topk


@dataclass(frozen=True)
class Retrieved:
    """The candidates of a block."""

    items_BC: Tensor
    """[B, C] int64 codes, ascending; 0 in the padding."""
    present_BC: Tensor
    """[B, C] bool: a candidate, or padding."""

    def over_catalogue(self, scores_BC: Tensor, num_items: int) -> Tensor:
        """[B, I] float32 the scores at the candidates, -inf elsewhere."""
        # The padding goes to a column of its own, which is cut off: code 0 may be a candidate too.
        places = torch.where(self.present_BC, self.items_BC, num_items)
        wide = torch.full((len(places), num_items + 1), -torch.inf).scatter_(1, places, scores_BC)
        return wide[:, :num_items]

    def places_of(self, items_BK: Tensor) -> Tensor:
        """[B, K] int64 column of each item among the candidates, -1 where it is none."""
        last = self.items_BC.new_full((1, 1), torch.iinfo(torch.int64).max)
        ordered = torch.where(self.present_BC, self.items_BC, last)  # the padding stands behind all codes
        places = torch.searchsorted(ordered, items_BK.contiguous()).clamp_(max=ordered.shape[1] - 1)
        return torch.where(ordered.gather(1, places) == items_BK, places, -1)


class Proposals:
    """Gathers what recommenders propose, while their blocks of scores pass by."""

    def __init__(self, depth: int, seen: tuple[Tensor, Tensor], num_items: int) -> None:
        """`seen`: rows and codes of what the histories hold."""
        self._depth = min(depth, num_items)
        self._seen = seen
        self._num_items = num_items
        self._seen_BI: Tensor | None = None
        self._tops: list[Tensor] = []

    def add(self, scores_BI: Tensor, can_score: Tensor, silent_score: float | None) -> None:
        """One recommender's best items; not those of which it has nothing to say, nor for users it cannot score."""
        if silent_score is not None and self._add_all(scores_BI, can_score, silent_score):
            return
        seen_BI = self._mask(len(scores_BI))
        best_BW = stable_topk(scores_BI, 2 * self._depth)
        speaks_BW = _speaks(scores_BI.gather(1, best_BW), silent_score) & can_score[:, None]
        unseen_BW = ~seen_BI.gather(1, best_BW)
        number_BW = unseen_BW.cumsum(dim=1)
        first_W = torch.arange(best_BW.shape[1]) < self._depth
        taken_BW = speaks_BW & (first_W | (unseen_BW & (number_BW <= self._depth)))
        self._tops.append(torch.where(taken_BW, best_BW, self._num_items))
        short_B = can_score & (number_BW[:, -1] < self._depth)
        if best_BW.shape[1] < self._num_items and bool(short_B.any()):
            self._add_hidden(scores_BI, torch.nonzero(short_B).flatten(), silent_score)

    def _add_all(self, scores_BI: Tensor, can_score: Tensor, silent_score: float) -> bool:
        """Add all items that are not silent, where nobody has more of them than are proposed; False elsewhere."""
        loud_BI = (scores_BI != silent_score) & can_score[:, None]
        counts_B = loud_BI.sum(dim=1)
        if len(counts_B) and int(counts_B.max()) > self._depth:
            return False
        self._tops.append(_codes(loud_BI, counts_B, self._num_items))
        return True

    def _add_hidden(self, scores_BI: Tensor, rows_R: Tensor, silent_score: float | None) -> None:
        """Add the best unseen items of users of whom more seen ones stand before them."""
        seen_RI, scores_RI = self._mask(len(scores_BI))[rows_R], scores_BI[rows_R]
        if silent_score is not None:
            some = ((scores_RI != silent_score) & ~seen_RI).any(dim=1)
            rows_R, seen_RI, scores_RI = rows_R[some], seen_RI[some], scores_RI[some]
        scores_RI = scores_RI.masked_fill(seen_RI, -torch.inf)
        best_RK = stable_topk(scores_RI, self._depth)
        speaks_RK = _speaks(scores_RI.gather(1, best_RK), silent_score)
        tops_BK = torch.full((len(scores_BI), self._depth), self._num_items)
        tops_BK[rows_R] = torch.where(speaks_RK, best_RK, self._num_items)
        self._tops.append(tops_BK)

    def _mask(self, users: int) -> Tensor:
        """[B, I] bool: does the history hold the item."""
        if self._seen_BI is None:
            self._seen_BI = torch.zeros(users, self._num_items, dtype=torch.bool)
            self._seen_BI[self._seen] = True
        return self._seen_BI

    def union(self) -> Retrieved:
        """Each user's distinct candidates."""
        ordered = torch.cat(self._tops, dim=1).sort(dim=1).values
        fresh = ordered < self._num_items
        fresh[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        counts = fresh.sum(dim=1)
        width = max(1, int(counts.max())) if len(counts) else 1
        places = torch.where(fresh, fresh.cumsum(dim=1) - 1, width)  # what is not taken goes behind the last column
        items_BC = torch.zeros(len(ordered), width + 1, dtype=torch.int64).scatter_(1, places, ordered)[:, :width]
        present_BC = torch.arange(width) < counts[:, None]
        return Retrieved(items_BC.contiguous(), present_BC)


def _speaks(scores: Tensor, silent_score: float | None) -> Tensor:
    """Which scores are those of items of which the recommender has something to say."""
    speaks = torch.isfinite(scores)
    return speaks if silent_score is None else speaks & (scores != silent_score)


def _codes(mask_BI: Tensor, counts_B: Tensor, nothing: int) -> Tensor:
    """[B, W] the codes where the mask is true, ascending, `nothing` behind the last."""
    width = max(1, int(counts_B.max())) if len(counts_B) else 1
    rows_N, codes_N = torch.nonzero(mask_BI, as_tuple=True)
    places_N = torch.arange(rows_N.numel()) - (counts_B.cumsum(0) - counts_B)[rows_N]
    codes_BW = torch.full((len(mask_BI), width), nothing)
    codes_BW[rows_N, places_N] = codes_N
    return codes_BW
