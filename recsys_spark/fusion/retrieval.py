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
        self._tops: list[Tensor] = []

    def add(self, scores_BI: Tensor, can_score: Tensor, silent_score: float | None) -> None:
        """One recommender's best items; not those of which it has nothing to say, nor for users it cannot score."""
        unseen = scores_BI.clone()
        unseen[self._seen] = -torch.inf
        for scores in (scores_BI, unseen):
            values, codes = self._best(scores, silent_score)
            speaks = torch.isfinite(values) & can_score[:, None]
            if silent_score is not None:
                speaks &= values != silent_score
            self._tops.append(torch.where(speaks, codes, self._num_items))

    def _best(self, scores_BI: Tensor, silent_score: float | None) -> tuple[Tensor, Tensor]:
        """Scores and codes of the best items; which of equals is among them must not be left to chance.

        Unless they are silent, and fall away: settling ties among thousands of them would cost more than all else.
        """
        if silent_score is not None:
            values, codes = torch.topk(scores_BI, self._depth, dim=1)
            if bool((values[:, -1] <= silent_score).all()):
                return values, codes
        codes = stable_topk(scores_BI, self._depth)
        return scores_BI.gather(1, codes), codes

    def union(self) -> Retrieved:
        """Each user's distinct candidates."""
        ordered = torch.cat(self._tops, dim=1).sort(dim=1).values
        fresh = ordered < self._num_items
        fresh[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        counts = fresh.sum(dim=1)
        width = max(1, int(counts.max())) if len(counts) else 1
        rows, _ = torch.nonzero(fresh, as_tuple=True)
        places = (fresh.cumsum(dim=1) - 1)[fresh]
        items_BC = torch.zeros(len(ordered), width, dtype=torch.int64)
        items_BC[rows, places] = ordered[fresh]
        return Retrieved(items_BC, torch.arange(width) < counts[:, None])
