"""Items that a user bought within their usual interval: he hardly needs them again yet.

The interval is the user's own median of the days between his purchases of the item, else the item's median among all
users. Purchases on one day count once; a day is (n-1, n] days back from the moment of recommendation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_spark.recommenders.batch import UserBatch

MOST_DAYS = 1 << 16
"""Purchases longer ago count as that many days ago (180 years)."""


def bought_too_lately(batch: UserBatch, bought_N: Tensor, interval_I: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Rows and codes of the items whose interval has not passed by `share` since the user bought them last.

    `bought_N` [N] bool says which events are purchases; `interval_I` [I] float32 the items' median days, NaN where not
    known. Without any interval an item is not among them.
    """
    num_items = int(interval_I.numel())
    ages = batch.ages[bought_N]
    pairs, place = torch.unique((batch.users * num_items + batch.items)[bought_N], return_inverse=True)
    last = torch.full((pairs.numel(),), torch.inf, dtype=torch.float64)
    last.scatter_reduce_(0, place, ages, reduce="amin")
    interval = _own_medians(place, ages, pairs.numel())
    codes = pairs % num_items
    interval = torch.where(interval.isnan(), interval_I[codes].double(), interval)
    lately = last < share * interval  # false for NaN
    return pairs[lately] // num_items, codes[lately]


def _own_medians(place: Tensor, ages: Tensor, count: int) -> Tensor:
    """[count] float64: the median gap in days between the purchase days of each pair, NaN below two of them."""
    days = torch.ceil(ages).long().clamp_(0, MOST_DAYS - 1)
    purchases = torch.unique(place * MOST_DAYS + days)  # sorted by pair, then by day
    of_pair, day = purchases // MOST_DAYS, purchases % MOST_DAYS
    same = of_pair[1:] == of_pair[:-1]
    keyed = torch.sort(of_pair[1:][same] * MOST_DAYS + (day[1:] - day[:-1])[same]).values
    sizes = torch.bincount(keyed // MOST_DAYS, minlength=count)
    starts = torch.cumsum(sizes, 0) - sizes
    gaps = torch.cat([(keyed % MOST_DAYS).double(), torch.zeros(1, dtype=torch.float64)])
    low, high = starts + (sizes - 1).clamp_min(0) // 2, starts + sizes // 2
    last = gaps.numel() - 1
    medians = (gaps[low.clamp_max(last)] + gaps[high.clamp_max(last)]) / 2
    return torch.where(sizes > 0, medians, torch.nan)
