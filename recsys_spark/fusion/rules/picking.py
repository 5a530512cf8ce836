"""Picking a list from candidates one place at a time: caps, and maximal marginal relevance.

At each place the best open candidate is taken: that of the highest relevance, or with diversity that of the highest
(1 - w) relevance - w max over the list of cosine(item, listed item), Carbonell and Goldstein 1998 with lambda = 1 - w.
Relevance is the score brought to 0..1 over the candidates of the list; a negative cosine counts 0, as does an item
without a vector. All users of a block take their step at once. Letters as in `rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_spark.fusion.rules.compiled import Cap
from recsys_spark.fusion.topk import stable_topk

OVERSAMPLE = 5
"""Candidates for each place of a list. Where caps leave it short, the next best of the open groups follow."""


@dataclass(frozen=True)
class Diversity:
    """How much likeness counts, and the vectors that tell it."""

    weight: float
    vectors_ID: Tensor


def pick(
    codes_BN: Tensor,
    scores_BN: Tensor,
    count_B: Tensor,
    chosen_BM: Tensor,
    caps: Sequence[Cap],
    diversity: Diversity | None = None,
) -> Tensor:
    """Up to `count_B` candidates of each user, in the order of picking: codes [B, max count], -1 behind the last.

    Candidates are distinct codes, best first; those with score -inf, and those among `chosen_BM` (codes, -1 is none),
    are not taken. The chosen count for the caps and for likeness.
    """
    rows, width = codes_BN.shape
    most = int(count_B.max()) if rows else 0
    picks = torch.full((rows, most), -1, dtype=torch.int64)
    if width == 0:
        return picks
    open_BN = torch.isfinite(scores_BN) & ~_among(codes_BN, chosen_BM)
    if not caps and diversity is None:
        inside = open_BN & (torch.cumsum(open_BN, 1) <= count_B[:, None])
        return appended(picks, torch.where(inside, codes_BN, -1))
    groups = [cap.groups_I[codes_BN] for cap in caps]
    counts = [_counted(cap, group, chosen_BM) for cap, group in zip(caps, groups, strict=True)]
    likeness = None if diversity is None else _Likeness(diversity, codes_BN, chosen_BM)
    relevance_BN = -torch.arange(width, dtype=torch.float32).expand(rows, width)
    if likeness is not None:
        relevance_BN = _unit_range(scores_BN)
    every = torch.arange(rows)
    for step in range(most):
        allowed_BN = open_BN & (step < count_B)[:, None]
        for cap, group, number in zip(caps, groups, counts, strict=True):
            allowed_BN &= (group == 0) | (number < cap.at_most)
        value_BN = relevance_BN if likeness is None else likeness.value(relevance_BN)
        best_B = torch.argmax(value_BN.masked_fill(~allowed_BN, -torch.inf), dim=1)  # of equals the first
        found_B = allowed_BN[every, best_B]
        if not bool(found_B.any()):
            break
        picks[:, step] = torch.where(found_B, codes_BN[every, best_B], -1)
        open_BN[every, best_B] &= ~found_B
        for group, number in zip(groups, counts, strict=True):
            number += ((group == group[every, best_B][:, None]) & found_B[:, None]).long()
        if likeness is not None:
            likeness.add(best_B, found_B)
    return picks


def refill(
    scores_BI: Tensor,
    picks_BK: Tensor,
    count_B: Tensor,
    chosen_BM: Tensor,
    caps: Sequence[Cap],
    diversity: Diversity | None,
    width: int,
) -> Tensor:
    """The picks, and further ones for users who have fewer than `count_B` although items are left.

    What the caps leave open is ranked again, `width` at a time, until the list is full or nothing is open: the result
    is that of picking from the whole catalogue, up to the window that diversity looks at.
    """
    picks_BK = picks_BK.clone()
    short_B = (picks_BK >= 0).sum(1) < count_B
    while bool(short_B.any()):
        rows = short_B.nonzero()[:, 0]
        taken = torch.cat([chosen_BM[rows], picks_BK[rows]], dim=1)
        scores = scores_BI[rows]
        of_row, place = (taken >= 0).nonzero(as_tuple=True)
        scores[of_row, taken[of_row, place]] = -torch.inf
        for cap in caps:
            scores.masked_fill_(_full(cap, taken)[:, cap.groups_I], -torch.inf)
        codes = stable_topk(scores, width)
        have = (picks_BK[rows] >= 0).sum(1)
        more = pick(codes, scores.gather(1, codes), count_B[rows] - have, taken, caps, diversity)
        picks_BK[rows] = appended(picks_BK[rows], more)
        short_B[rows] = (more[:, 0] >= 0) & ((picks_BK[rows] >= 0).sum(1) < count_B[rows])
    return picks_BK


def appended(first_BK: Tensor, second_BM: Tensor) -> Tensor:
    """[B, K] the codes of `first` followed by those of `second`, -1 behind the last; what goes beyond K is cut."""
    both = torch.cat([first_BK, second_BM], dim=1)
    order = torch.argsort((both < 0).to(torch.int8), dim=1, stable=True)
    return both.gather(1, order)[:, : first_BK.shape[1]]


class _Likeness:
    """The largest cosine of each candidate with an item of the list so far."""

    def __init__(self, diversity: Diversity, codes_BN: Tensor, chosen_BM: Tensor) -> None:
        self._weight = diversity.weight
        self._units_BND = F.normalize(diversity.vectors_ID[codes_BN].float(), dim=2)
        self._most_BN = torch.zeros(codes_BN.shape)
        for place in range(chosen_BM.shape[1]):
            units_BD = F.normalize(diversity.vectors_ID[chosen_BM[:, place].clamp_min(0)].float(), dim=1)
            self._raise(units_BD * (chosen_BM[:, place] >= 0)[:, None])

    def value(self, relevance_BN: Tensor) -> Tensor:
        """Marginal relevance [B, N]."""
        return (1 - self._weight) * relevance_BN - self._weight * self._most_BN

    def add(self, place_B: Tensor, found_B: Tensor) -> None:
        """Candidate `place_B` has come into the list where `found_B`."""
        self._raise(self._units_BND[torch.arange(place_B.numel()), place_B] * found_B[:, None])

    def _raise(self, units_BD: Tensor) -> None:
        cosines_BN = torch.bmm(self._units_BND, units_BD[:, :, None])[:, :, 0]
        torch.maximum(self._most_BN, cosines_BN, out=self._most_BN)


def _among(codes_BN: Tensor, chosen_BM: Tensor) -> Tensor:
    """[B, N] bool: is the code one of the user's chosen."""
    if chosen_BM.shape[1] == 0:
        return torch.zeros(codes_BN.shape, dtype=torch.bool)
    return (codes_BN[:, :, None] == chosen_BM[:, None, :]).any(2)


def _counted(cap: Cap, group_BN: Tensor, chosen_BM: Tensor) -> Tensor:
    """[B, N] int64: chosen items of each candidate's group."""
    if chosen_BM.shape[1] == 0:
        return torch.zeros(group_BN.shape, dtype=torch.int64)
    chosen = torch.where(chosen_BM >= 0, cap.groups_I[chosen_BM.clamp_min(0)], -1)
    return (group_BN[:, :, None] == chosen[:, None, :]).sum(2)


def _full(cap: Cap, taken_BM: Tensor) -> Tensor:
    """[B, G + 1] bool: has the list as many of the group as it may; group 0 never."""
    groups = torch.where(taken_BM >= 0, cap.groups_I[taken_BM.clamp_min(0)], 0)
    counts = torch.zeros((taken_BM.shape[0], cap.size + 1), dtype=torch.int64)
    counts.scatter_add_(1, groups, torch.ones_like(groups))
    full = counts >= cap.at_most
    full[:, 0] = False
    return full


def _unit_range(scores_BN: Tensor) -> Tensor:
    """[B, N] scores brought to 0..1 in each row; 1 where they are all the same, 0 for -inf."""
    finite = torch.isfinite(scores_BN)
    high = torch.where(finite, scores_BN, -torch.inf).amax(1, keepdim=True)
    low = torch.where(finite, scores_BN, torch.inf).amin(1, keepdim=True)
    span = (high - low).clamp_min(1e-12)
    return torch.where(finite, 1 - (high - scores_BN) / span, 0.0)
