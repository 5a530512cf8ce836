"""What the stacked fusion sees of a candidate: scores, the user's dealings with the item, the item, the user.

One function makes the rows that are trained on and those that are served. All comes from the batch (histories up to the
moment of recommendation) and from columns of items that were counted up to the same moment. Legend: B users, N
candidates of all users end to end, F features, P distinct (user, item) pairs of the histories, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.fusion.blended import CONTEXT
from recsys_spark.fusion.counted import Counted, at
from recsys_spark.fusion.item_columns import ItemColumns
from recsys_spark.fusion.kinds import OF_KINDS, UserKinds
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.pairs import find_pairs

OF_A_COMPONENT = ("score", "z", "rank")
OF_THE_PAIR = (
    *("own.count", "own.count_7", "own.count_30", "own.count_90", "own.days", "own.idle", "own.since_first"),
    *("own.interval", "own.due", "own.due_item", "own.share", "own.visit_share", "own.visits_since", "own.due_visits"),
    *("own.others", "own.others_idle"),
)
"""The user's purchases of this very item; they belong to the recommender `repurchase`, where it takes part."""
OF_SALES = (
    *("item.purchases", "item.purchases_7", "item.purchases_30", "item.purchases_90", "item.trend", "item.buyers"),
    *("item.new_14", "item.new_30", "item.new_trend", "item.take_up"),
)
"""How it sells, and to how many who never had it. They belong to the recommender `popularity`, where it takes part."""
OF_THE_ITEM = ("item.age", "item.idle", "item.price", "item.price_ratio", "item.repeat_share", "item.interval")
OF_THE_KIND = tuple(f"{kind}.{name}" for kind, names in OF_KINDS.items() for name in names)
OF_THE_USER = (
    *("user.purchases", "user.items", "user.visits", "user.visits_30", "user.idle", "user.visit_gap"),
    *("user.repeat_share", "user.new_30", "user.price"),
)
DAYS = 1 << 16
"""Days longer ago count as that many (180 years)."""
PRIOR_GAPS = 1.0
"""The item's usual interval counts as so many of the user's own."""


@dataclass(frozen=True)
class ComponentScores:
    """A component's scores of the candidates."""

    scores_N: Tensor
    z_N: Tensor
    """Standardised over the whole catalogue."""
    rank_N: Tensor
    """1, 2, ... among the user's candidates; equals in the order of their codes."""
    can_N: Tensor
    """bool."""


def feature_names(components: Sequence[str]) -> tuple[str, ...]:
    """The F names, in the order of the columns."""
    scored = tuple(f"{name}.{kind}" for name in components for kind in OF_A_COMPONENT)
    return scored + OF_THE_PAIR + OF_SALES + OF_THE_ITEM + OF_THE_KIND + OF_THE_USER


def feature_owners(components: Sequence[str]) -> tuple[str, ...]:
    """The part to which each feature's contribution is counted: a component, or CONTEXT."""
    own = "repurchase" if "repurchase" in components else CONTEXT
    sales = "popularity" if "popularity" in components else CONTEXT
    rest = len(OF_THE_ITEM) + len(OF_THE_KIND) + len(OF_THE_USER)
    scored = tuple(name for name in components for _ in OF_A_COMPONENT)
    return scored + (own,) * len(OF_THE_PAIR) + (sales,) * len(OF_SALES) + (CONTEXT,) * rest


def features(
    batch: UserBatch,
    target: Tensor,
    columns: ItemColumns,
    scored: Mapping[str, ComponentScores],
    users_N: Tensor,
    items_N: Tensor,
) -> Tensor:
    """[N, F] float32, NaN where something is not known. `target` [events] bool: which events count as purchases."""
    history = _History(batch, target, columns)
    found: list[Tensor] = []
    for component in scored.values():
        found += [
            torch.where(component.can_N, values, torch.nan)
            for values in (component.scores_N, component.z_N, component.rank_N)
        ]
    found += history.of_pairs(users_N, items_N)
    found += _of_sales(columns, items_N)
    price_N = history.price_B[users_N]
    found += [
        columns.age[items_N],
        columns.idle[items_N],
        columns.price[items_N],
        columns.price[items_N] / price_N,
        columns.repeat_share[items_N],
        columns.interval[items_N],
    ]
    for kind in OF_KINDS:
        found += history.kinds.of(kind, users_N, items_N)
    found += [values[users_N] for values in history.of_users()]
    made = torch.stack([values.float() for values in found], dim=1)
    return torch.where(torch.isfinite(made), made, torch.nan)


def _of_sales(columns: ItemColumns, items_N: Tensor) -> list[Tensor]:
    counts = [columns.purchases, columns.purchases_7, columns.purchases_30, columns.purchases_90]
    lately, before = columns.purchases_30[items_N], columns.purchases_90[items_N] - columns.purchases_30[items_N]
    trend = torch.log((lately + 1) / (before / 2 + 1))
    new_14, new_30, new_60 = (count[items_N] for count in (columns.new_14, columns.new_30, columns.new_60))
    return [
        *(torch.log1p(count[items_N]) for count in counts),
        trend,
        torch.log1p(columns.buyers[items_N]),
        torch.log1p(new_14),
        torch.log1p(new_30),
        torch.log((new_14 + 1) / ((new_60 - new_14) * (14 / 46) + 1)),
        torch.log((new_30 + 1) / (columns.buyers[items_N] + 1)),
    ]


class _History:
    """The histories of a batch, counted once for all candidates. Purchases are the target events."""

    def __init__(self, batch: UserBatch, target: Tensor, columns: ItemColumns) -> None:
        self._columns = columns
        self._size = batch.size
        users = batch.users
        self._users, self._items, self._ages = users[target], batch.items[target], batch.ages[target]
        self._other = (users[~target], batch.items[~target], batch.ages[~target])
        self._days = torch.floor(self._ages).long().clamp_(0, DAYS - 1)
        self._num_items = columns.num_items
        self._visits = torch.unique(self._users * DAYS + self._days)  # a visit is a user's day
        self.visits_B = torch.bincount(self._visits // DAYS, minlength=batch.size)
        self._starts_B = torch.cumsum(self.visits_B, 0) - self.visits_B
        self.purchases_B = torch.bincount(self._users, minlength=batch.size)
        prices = columns.price[self._items].double()
        priced = torch.isfinite(prices)
        sums = torch.zeros(batch.size, dtype=torch.float64).index_add_(0, self._users[priced], prices[priced])
        self.price_B = sums / torch.bincount(self._users[priced], minlength=batch.size)
        self._pairs = Counted(self._users * self._num_items + self._items, self._ages)
        self.kinds = UserKinds(self._users, self._items, self._ages, batch.size, self._pairs, columns)
        bought = torch.unique((self._users * self._num_items + self._items) * DAYS + self._days) // DAYS
        self._pair_days = torch.unique_consecutive(bought, return_counts=True)[1]

    def of_pairs(self, users_N: Tensor, items_N: Tensor) -> list[Tensor]:
        """OF_THE_PAIR: counts are 0 and days are NaN where the user never bought the item."""
        keys_N = users_N * self._num_items + items_N
        place_N = find_pairs(self._pairs.keys, keys_N)
        had = place_N >= 0
        count, count_7, count_30, count_90 = (at(values, place_N, 0) for values in self._pairs.counts)
        days = at(self._pair_days, place_N, 0).float()
        newest, oldest = at(self._pairs.newest, place_N, torch.nan), at(self._pairs.oldest, place_N, torch.nan)
        own = torch.where(days >= 2, (oldest - newest) / (days - 1).clamp_min(1), torch.nan)
        usual_N = self._columns.interval[items_N]
        gaps = (days - 1).clamp_min(0)
        prior = torch.where(torch.isfinite(usual_N), PRIOR_GAPS, 0.0)
        interval = (own.nan_to_num(0.0) * gaps + usual_N.nan_to_num(0.0) * prior) / (gaps + prior)
        interval = torch.where(had, interval.clamp_min(1.0), torch.nan)
        visits_N = self.visits_B[users_N]
        day_N = torch.floor(newest.nan_to_num(0.0)).long().clamp(0, DAYS - 1)
        since = torch.searchsorted(self._visits, users_N * DAYS + day_N) - self._starts_B[users_N]
        since = torch.where(had, since.float(), torch.nan)
        others, others_idle = self._of_others(keys_N)
        return [
            *(count, count_7, count_30, count_90, days, newest, oldest),
            *(own, newest / interval, newest / usual_N),
            count / self.purchases_B[users_N].clamp_min(1),
            days / visits_N.clamp_min(1),
            since,
            since / (visits_N / days.clamp_min(1)),
            *(others, others_idle),
        ]

    def _of_others(self, keys_N: Tensor) -> tuple[Tensor, Tensor]:
        """The user's other events with the item: their count, and the days since the last."""
        users, items, ages = self._other
        counted = Counted(users * self._num_items + items, ages)
        place_N = find_pairs(counted.keys, keys_N)
        return at(counted.counts[0], place_N, 0), at(counted.newest, place_N, torch.nan)

    def of_users(self) -> list[Tensor]:
        """OF_THE_USER, each [B]."""
        pair_users = self._pairs.keys // self._num_items
        items_B = torch.bincount(pair_users, minlength=self._size)
        again_B = torch.bincount(pair_users[self._pair_days >= 2], minlength=self._size)
        day, user = self._visits % DAYS, self._visits // DAYS
        lately_B = torch.bincount(user[day < 30], minlength=self._size)
        newest_B = torch.full((self._size,), torch.inf).scatter_reduce_(0, self._users, self._ages.float(), "amin")
        oldest_B = torch.zeros(self._size).scatter_reduce_(0, self._users, self._ages.float(), "amax")
        gap_B = torch.where(self.visits_B >= 2, (oldest_B - newest_B) / (self.visits_B - 1).clamp_min(1), torch.nan)
        new_B = torch.bincount(pair_users[self._pairs.oldest < 30], minlength=self._size)
        shares_B = torch.where(items_B > 0, again_B / items_B.clamp_min(1), torch.nan)
        return [self.purchases_B, items_B, self.visits_B, lately_B, newest_B, gap_B, shares_B, new_B, self.price_B]
