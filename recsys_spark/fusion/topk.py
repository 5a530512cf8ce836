"""The K best items of each row, exactly: ties go to the lower code, every time and on every machine.

Selecting from a wide row in one go costs more than the matrix product that made it. So most of the row is ruled out
first. Items are put into groups; the K-th highest of the groups' maxima is a bound that at least K items reach, so what
does not exceed it is among the K best only as an equal of the K-th. A row is read once, by a maximum that runs at the
speed of memory; then some hundred numbers are left to be sorted.

Legend: B users, I items, K list length, G groups, R items of a group, C candidates, N candidates of all users.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

WIDE = 8
"""Rows of more than this many times K items are grouped."""
GROUP = 32
"""Items of a group, fewer where there would not be twice as many groups as places in the list."""
MANY = 16
"""Rows with more than this many times K candidates are not sorted but selected from as a whole."""
FEW = 4
"""So many rows cost mostly the calls, and are taken one by one with the fewest."""
CELLS_AT_ONCE = 1 << 21
"""Cells of rows with ties that are looked at at a time."""
LARGEST = 0x7FFFFFFF
"""The largest integer of 32 bits; codes are smaller."""


def stable_topk(scores_BI: Tensor, k: int) -> Tensor:
    """Codes [B, K] of the K best scores, best first; ties go to the lower code. -inf is a score, NaN is not allowed."""
    k = min(k, scores_BI.shape[1])
    if len(scores_BI) <= FEW and scores_BI.shape[1] > WIDE * k > 0:
        return _of_few(scores_BI, k)
    narrow = scores_BI.shape[1] <= WIDE * k or not len(scores_BI)
    return _of_narrow(scores_BI, k) if narrow else _of_wide(scores_BI, k)


def best(scores_BI: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The K best scores of each row, best first, and their codes, each [B, K]."""
    codes_BK = stable_topk(scores_BI, k)
    return scores_BI.gather(1, codes_BK), codes_BK


def _of_narrow(scores_BI: Tensor, k: int) -> Tensor:
    """By torch.topk, which breaks ties as it likes: one item more than asked for tells where they are at the edge."""
    values_BK, codes_BK = torch.topk(scores_BI, min(k + 1, scores_BI.shape[1]), dim=1)
    tied = torch.nonzero(values_BK[:, k:] == values_BK[:, k - 1 : k])[:, 0]
    values_BK, codes_BK = values_BK[:, :k], codes_BK[:, :k]
    rows = torch.nonzero((values_BK[:, 1:] == values_BK[:, :-1]).any(dim=1)).flatten()
    if rows.numel():
        codes, by_code = codes_BK[rows].sort(dim=1)
        by_value = torch.argsort(values_BK[rows].gather(1, by_code), dim=1, descending=True, stable=True)
        codes_BK[rows] = codes.gather(1, by_value)
    above_B = (values_BK > values_BK[:, -1:]).sum(dim=1)
    _fill(scores_BI, values_BK[:, -1:], above_B, codes_BK, tied)
    return codes_BK


def _of_few(scores_BI: Tensor, k: int) -> Tensor:
    """By a bound, row by row: the K-th largest of the groups' maxima."""
    items = scores_BI.shape[1]
    size = min(GROUP, items // (2 * k))
    codes_BK = np.empty((len(scores_BI), k), dtype=np.int64)
    for codes_K, scores_I in zip(codes_BK, scores_BI.detach().numpy(), strict=True):
        maxima_G = scores_I[: items // size * size].reshape(size, -1).max(axis=0)  # of items that stand apart: faster
        bound = np.partition(maxima_G, len(maxima_G) - k)[len(maxima_G) - k]
        above = np.flatnonzero(scores_I > bound)
        best = above[np.argsort(-scores_I[above], kind="stable")][:k]
        codes_K[: len(best)] = best
        if len(best) < k:
            codes_K[len(best) :] = np.flatnonzero(scores_I == bound)[: k - len(best)]
    return torch.from_numpy(codes_BK)


def _of_wide(scores_BI: Tensor, k: int) -> Tensor:
    """By a bound and the candidates above it."""
    scores_BI = scores_BI.contiguous()
    items = scores_BI.shape[1]
    size = min(GROUP, items // (2 * k))
    grouped_BGR = scores_BI[:, : items // size * size].unflatten(1, (items // size, size))
    maxima_BG = grouped_BGR.amax(2)
    bound_B1 = _bound(maxima_BG, k)
    candidates = _candidates(scores_BI, size, maxima_BG, bound_B1)
    above_B = torch.bincount(candidates.rows, minlength=len(scores_BI))
    crowded_B = above_B > MANY * k
    best_BK = _sorted(candidates.of(~crowded_B), above_B.masked_fill(crowded_B, 0), k)
    _fill(scores_BI, bound_B1, above_B, best_BK, torch.nonzero(above_B < k).flatten())
    crowded = torch.nonzero(crowded_B).flatten()
    if crowded.numel():
        best_BK[crowded] = _of_narrow(scores_BI[crowded], k)
    return best_BK


def _bound(maxima_BG: Tensor, k: int) -> Tensor:
    """[B, 1] a number that at least K of a row's items reach: the K-th of the maxima of some twice as many groups."""
    merged = max(1, round(maxima_BG.shape[1] / (2 * k)))
    groups = maxima_BG.shape[1] // merged
    if merged > 1:
        maxima_BG = maxima_BG[:, : groups * merged].unflatten(1, (merged, groups)).amax(1)
    return torch.topk(maxima_BG, k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)


class _Candidates(NamedTuple):
    """Items above the bounds, by row and code."""

    rows: Tensor
    """[N] int64, ascending."""
    codes: Tensor
    """[N] int64, ascending within a row."""
    scores: Tensor
    """[N] float32."""

    def of(self, kept_B: Tensor) -> _Candidates:
        """Those of some rows."""
        if bool(kept_B.all()):
            return self
        kept_N = kept_B[self.rows]
        return _Candidates(self.rows[kept_N], self.codes[kept_N], self.scores[kept_N])


def _candidates(scores_BI: Tensor, size: int, maxima_BG: Tensor, bound_B1: Tensor) -> _Candidates:
    """The items above the bound: those of groups whose maximum is, and of the few behind the last group."""
    items, groups = scores_BI.shape[1], maxima_BG.shape[1]
    row_H, group_H = _places(maxima_BG > bound_B1)
    first_H = group_H * size
    # Any `size` numbers on end, by where they begin: picks whole groups, faster than brackets would.
    windows = scores_BI.as_strided((scores_BI.numel() - size + 1, size), (1, 1), scores_BI.storage_offset())
    inside_HR = windows.index_select(0, row_H * items + first_H)
    hit_N, place_N = _places(inside_HR > bound_B1.index_select(0, row_H))
    found = _Candidates(
        row_H.index_select(0, hit_N),
        first_H.index_select(0, hit_N) + place_N,
        inside_HR.view(-1).index_select(0, hit_N * size + place_N),
    )
    behind_BR = scores_BI[:, groups * size :]
    row, place = _places(behind_BR > bound_B1)
    if not row.numel():
        return found
    rows, order = torch.cat([found.rows, row]).sort(stable=True)
    codes = torch.cat([found.codes, place + groups * size])[order]
    return _Candidates(rows, codes, torch.cat([found.scores, behind_BR[row, place]])[order])


def _places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of what is true, in order; many times as fast as torch.nonzero where that is little."""
    flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
    rows = torch.div(flat, max(mask.shape[1], 1), rounding_mode="floor")
    return rows, flat - rows * mask.shape[1]


def _sorted(candidates: _Candidates, number_B: Tensor, k: int) -> Tensor:
    """[B, K] the codes of each row's best candidates in order, 0 behind the last.

    `number_B` says how many there are of each row. Score and code are sorted as one
    integer: above all the score, whose bits order like a number's when those of a negative one are turned round, and
    then the code, the lowest first.
    """
    rows, codes, scores = candidates
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: minus zero equals zero
    bits ^= (bits >> 31) & LARGEST
    keys_BC = torch.full((len(number_B), max(k, int(number_B.max()))), -(1 << 63))
    width = keys_BC.shape[1]
    shifts_B = torch.arange(len(number_B)) * width - (number_B.cumsum(0) - number_B)
    places = torch.arange(rows.numel()) + shifts_B.index_select(0, rows)
    keys_BC.view(-1)[places] = (bits.long() << 32) | (LARGEST - codes)
    keys_BC.numpy().sort(axis=1)
    best_BK = keys_BC[:, -k:].flip(1)
    return torch.where(best_BK == -(1 << 63), 0, LARGEST - (best_BK & LARGEST))


def _fill(scores_BI: Tensor, edge_B1: Tensor, above_B: Tensor, codes_BK: Tensor, rows: Tensor) -> None:
    """In the given rows, fill the places behind those above the edge with the lowest codes that have its score.

    They are looked for from the row's start, in a first part and then in ever larger ones.
    """
    items, k = scores_BI.shape[1], codes_BK.shape[1]
    width = min(4 * k, items)
    while rows.numel():
        unsettled = []
        for some in rows.split(max(1, CELLS_AT_ONCE // width)):
            level_TW = scores_BI[some, :width] == edge_B1[some]
            place_TW = level_TW.cumsum(dim=1, dtype=torch.int32) + above_B[some, None]
            enough_T1 = place_TW[:, -1:] >= k
            row, code = torch.nonzero(level_TW & (place_TW <= k) & enough_T1, as_tuple=True)
            codes_BK[some[row], place_TW[row, code].long() - 1] = code
            unsettled.append(some[~enough_T1[:, 0]])
        rows = torch.cat(unsettled)
        width = min(8 * width, items)
