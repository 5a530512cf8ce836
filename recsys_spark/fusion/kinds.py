"""What the stacked fusion sees of a user's dealings with items of the candidate's kind: its category, brand or title.

What an item will be to a user who never had it is told by its likes: whether he buys such things, how often he tries
another one of them, and which of them people try now. Legend: B users, N candidates, I items, S kinds, P distinct
(user, item) pairs of the histories.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_spark.fusion.counted import Counted, at
from recsys_spark.fusion.item_columns import ItemColumns, Kind
from recsys_spark.recommenders.pairs import find_pairs

OF_KINDS = {
    "category": ("share", "count_30", "idle", "items", "new_30", "new_90", "expected"),
    "brand": ("share", "idle"),
    "title": ("share", "idle", "items", "new_30", "new_90", "due", "item_share", "price_ratio", "expected"),
}
"""Of each kind, the features that are taken; a kind is a column of codes, 0 for items that have none.

share, count_30, idle, items: the user's purchases in the kind over all of his, those of the last 30 days, the days
since the last one, and their distinct items. new_30, new_90: items of the kind that he bought in these days for the
first time. due: idle over his mean days between purchase days in the kind. item_share: log of the item's share in the
kind's new buyers of the last 30 days. price_ratio: the item's price over what he pays in the kind. expected: log of the
rate at which he takes up new items of the kind, times item_share's share.
"""
MOST_DAYS = 1 << 16
"""Days longer ago count as that many (180 years)."""
NEW_HALF_LIFE = 60.0
"""Days after which a first purchase counts half in the rate."""
PRIOR_ITEMS = 20.0
"""First purchases of prior strength with which a user's rates are drawn to those of all."""


class UserKinds:
    """The histories of a batch by kind."""

    def __init__(
        self, users: Tensor, items: Tensor, ages: Tensor, size: int, pairs: Counted, columns: ItemColumns
    ) -> None:
        """`users`, `items`, `ages`: the purchases of `size` users; `pairs`: the same counted by user x I + item."""
        self._users, self._items, self._ages = users, items, ages
        self._days = torch.floor(ages).long().clamp_(0, MOST_DAYS - 1)
        self._purchases_B = torch.bincount(users, minlength=size)
        self._pairs = pairs
        self._columns = columns
        self._pair_users = pairs.keys // columns.num_items
        self._pair_items = pairs.keys % columns.num_items
        self._fresh = torch.pow(0.5, pairs.oldest / NEW_HALF_LIFE)

    def of(self, kind: str, users_N: Tensor, items_N: Tensor) -> list[Tensor]:
        """The features of OF_KINDS, each [N]; NaN for items without a kind."""
        known = self._columns.kinds[kind]
        kinds_I, size = known.codes_I, known.size
        kind_N = kinds_I[items_N]
        keys_N = users_N * size + kind_N
        made = self._bought(kinds_I, size, users_N, keys_N, items_N)
        if "expected" in OF_KINDS[kind]:
            made |= self._taken_up(known, users_N, keys_N)
            made["item_share"] = torch.log(known.new_share_I[items_N])
            made["expected"] = torch.log(made["rate"]) + made["item_share"]
        return [torch.where(kind_N == 0, torch.nan, made[name].float()) for name in OF_KINDS[kind]]

    def _bought(
        self, kinds_I: Tensor, size: int, users_N: Tensor, keys_N: Tensor, items_N: Tensor
    ) -> dict[str, Tensor]:
        """Purchases in the kind."""
        keys = self._users * size + kinds_I[self._items]
        counted = Counted(keys, self._ages)
        place_N = find_pairs(counted.keys, keys_N)
        idle = at(counted.newest, place_N, torch.nan)
        days = torch.unique(counted.place * MOST_DAYS + self._days) // MOST_DAYS
        gaps = at(torch.bincount(days, minlength=counted.keys.numel()), place_N, torch.nan) - 1
        usual = torch.where(
            gaps > 0, at(counted.oldest - counted.newest, place_N, torch.nan).clamp_min(1) / gaps, torch.nan
        )
        prices = self._columns.price[self._items].double()
        priced = torch.isfinite(prices)
        paid = torch.zeros(counted.keys.numel(), dtype=torch.float64)
        paid.index_add_(0, counted.place[priced], prices[priced])
        paid /= torch.bincount(counted.place[priced], minlength=counted.keys.numel())
        return {
            "share": at(counted.counts[0], place_N, 0) / self._purchases_B[users_N].clamp_min(1),
            "count_30": at(counted.counts[2], place_N, 0),
            "idle": idle,
            "due": idle / usual,
            "price_ratio": self._columns.price[items_N] / at(paid, place_N, torch.nan),
        }

    def _taken_up(self, kind: Kind, users_N: Tensor, keys_N: Tensor) -> dict[str, Tensor]:
        """Items of the kind, and when they were new to the user."""
        first = Counted(self._pair_users * kind.size + kind.codes_I[self._pair_items], self._pairs.oldest)
        place_N = find_pairs(first.keys, keys_N)
        fresh = torch.bincount(first.place, self._fresh, minlength=first.keys.numel())
        every = torch.bincount(self._pair_users, self._fresh, minlength=len(self._purchases_B))
        prior_N = kind.taken_up_S[keys_N % kind.size]
        rate = (at(fresh, place_N, 0) + PRIOR_ITEMS * prior_N) / (every[users_N] + PRIOR_ITEMS)
        counts = {
            name: at(first.counts[place], place_N, 0) for name, place in (("items", 0), ("new_30", 2), ("new_90", 3))
        }
        return {**counts, "rate": rate}
