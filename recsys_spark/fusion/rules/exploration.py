"""Exploration: some places of a list show new items drawn by lot, with known chances.

For a user, the eligible set E is the `candidates` new items of highest score that are neither in the list nor pinned,
and of which any drawing keeps the caps. Of the list's F places that are not pinned, the last A (those from `first_rank`
on) may be drawn. e = min(round(share K), |E|) of these A places are drawn uniformly without replacement, and e items of
E, uniformly without replacement, stand in them; the other places hold the ranked items in their order. So

    P(item of E at one of the A places)     = e / A x 1 / |E|
    P(j-th ranked item at the a-th of them) = C(a-1, j-1) C(A-a, A-e-j) / C(A, e)

with j counted from the first ranked item that can come into the A places; a pinned item, and a ranked one above them,
stand where they stand with probability 1. Over all items the chances of a place add up to 1. These are the propensities
of inverse propensity scoring (Horvitz and Thompson 1952). Draws are hashes of (seed, user, moment): the same for the
same input, as good as random over users and days. Letters as in `rules`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys_spark.datasets.flat import hashed
from recsys_spark.recommenders.batch import UserBatch

PLACES, ITEMS = 1, 2
"""Streams of hashes: which places are drawn, and which items."""


def explored_places(share: float, k: int) -> int:
    """Places of a list of `k` that are drawn: the nearest whole number, halves up."""
    return math.floor(share * k + 0.5)


def user_keys(batch: UserBatch) -> npt.NDArray[np.int64]:
    """[B] a number for each user: the index, and for strangers a hash of what they did."""
    index = np.zeros(batch.size, dtype=np.int64) if batch.user_index is None else batch.user_index.numpy()
    sums = np.zeros(batch.size, dtype=np.int64)
    np.add.at(sums, batch.users.numpy(), hashed(0, batch.items.numpy(), batch.event_types.numpy()) >> 20)
    return np.where(index > 0, index, -1 - sums)


def draws(seed: int, keys: npt.NDArray[np.int64], moment: int, stream: int, width: int) -> Tensor:
    """[B, width] int64 hashes, the lots of `width` places or items of each user."""
    rows, columns = np.repeat(keys, width), np.tile(np.arange(width), keys.size)
    same = np.full(rows.size, moment), np.full(rows.size, stream)
    return torch.from_numpy(hashed(seed, rows, *same, columns).reshape(keys.size, width))


def smallest(lots_BN: Tensor, eligible_BN: Tensor, count_B: Tensor) -> Tensor:
    """[B, N] int64: the rank 0..count-1 of the `count_B` eligible columns with the smallest lots, -1 for all others."""
    lots_BN = lots_BN.masked_fill(~eligible_BN, torch.iinfo(torch.int64).max)
    order = torch.argsort(lots_BN, dim=1, stable=True)
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    return torch.where(eligible_BN & (ranks < count_B[:, None]), ranks, -1)


@dataclass(frozen=True)
class Places:
    """What stands in each place of B lists of K places."""

    pin_BK: Tensor
    """[B, K] int64: which pin, from 0; -1 where none."""
    ranked_BK: Tensor
    """[B, K] which ranked item, from 0; -1 where none."""
    drawn_BK: Tensor
    """[B, K] which drawn item, in the order of drawing; -1 where none."""
    propensity_BK: Tensor
    """[B, K] float64: the probability that this item stands in this place; 0 behind the end."""


def arrange(
    positions_BP: Tensor,
    ranked_B: Tensor,
    drawn_B: Tensor,
    eligible_B: Tensor,
    first_rank: int,
    k: int,
    lots_BK: Tensor,
) -> Places:
    """Give the pins, `ranked_B` ranked items and `drawn_B` drawn ones of each user their places.

    `positions_BP` holds the pins' positions, ascending, 0 behind the last; in a list that ends earlier a pin moves up
    to its end. `eligible_B` is |E|; `lots_BK` decides which places are drawn.
    """
    pins_B = (positions_BP > 0).sum(1)
    total_B = pins_B + ranked_B + drawn_B
    slots_K = torch.arange(1, k + 1)
    pin_BK = _pin_places(positions_BP, pins_B, total_B, k)
    free_BK = (pin_BK < 0) & (slots_K <= total_B[:, None])
    number_BK = torch.cumsum(free_BK, 1)  # f, from 1
    free_B = ranked_B + drawn_B
    late_B = (free_BK & (slots_K >= first_rank)).sum(1)
    can_B = torch.maximum(late_B, drawn_B)  # A: a list that ends before first_rank is drawn from its end
    before_B = free_B - can_B
    may_BK = free_BK & (number_BK > before_B[:, None])
    is_drawn_BK = smallest(lots_BK, may_BK, drawn_B) >= 0
    is_ranked_BK = free_BK & ~is_drawn_BK
    ranked_BK = torch.where(is_ranked_BK, torch.cumsum(is_ranked_BK, 1) - 1, -1)
    drawn_BK = torch.where(is_drawn_BK, torch.cumsum(is_drawn_BK, 1) - 1, -1)

    a = (number_BK - before_B[:, None]).double()
    j = (ranked_BK + 1 - before_B[:, None]).double()
    can, drawn = can_B[:, None].double(), drawn_B[:, None].double()
    by_rank = _log_choose(a - 1, j - 1) + _log_choose(can - a, can - drawn - j) - _log_choose(can, drawn)
    by_lot = drawn / can.clamp_min(1) / eligible_B[:, None].double().clamp_min(1)
    propensity = torch.where(pin_BK >= 0, 1.0, 0.0).double()
    propensity = torch.where(is_ranked_BK, torch.where(may_BK, torch.exp(by_rank), 1.0), propensity)
    return Places(pin_BK, ranked_BK, drawn_BK, torch.where(is_drawn_BK, by_lot, propensity))


def _pin_places(positions_BP: Tensor, pins_B: Tensor, total_B: Tensor, k: int) -> Tensor:
    """[B, K] the number of the pin in each place, -1 where there is none."""
    places = torch.full((positions_BP.shape[0], k), -1, dtype=torch.int64)
    for pin in range(positions_BP.shape[1]):
        rows = (pin < pins_B).nonzero()[:, 0]
        latest = total_B[rows] - (pins_B[rows] - 1 - pin)
        places[rows, torch.minimum(positions_BP[rows, pin], latest) - 1] = pin
    return places


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """Logarithm of n choose k; finite nonsense outside 0 <= k <= n, where nobody looks."""
    n, k = n.clamp_min(0), k.clamp_min(0)
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp_min(0) + 1)
