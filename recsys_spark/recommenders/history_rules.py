"""History rules: what a user had often and lately, weighed by how often the item is bought again."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle, write_bundle
from recsys_spark.recommenders.decayed import HistoryItems, decayed_items
from recsys_spark.recommenders.forms import Cells, Form
from recsys_spark.recommenders.pairs import find_pairs

MOST_DAYS = 1 << 16
"""Purchases longer ago count as that many days ago (180 years)."""


class HistoryRules(Recommender):
    """Repurchase: r_ui = p_i x sum over the user's events e of i of w_e 0.5^(age_e / half-life); 0 for other items.

    p_i is the item's repeat propensity: the share of its buyers who bought it again on another day.
    """

    kind: ClassVar[str] = "history_rules"
    silent_score: ClassVar[float | None] = 0.0

    def __init__(self, name: str, propensity_I: Tensor, half_life_days: float, purchase_types: tuple[int, ...]) -> None:
        """`propensity_I` [I] float32 in (0, 1]; `purchase_types`: codes of the event types that count as purchases."""
        super().__init__(name, int(propensity_I.numel()))
        self.propensity_I = propensity_I
        self.half_life_days = half_life_days
        self.purchase_types = purchase_types

    def score(self, batch: UserBatch) -> Scores:
        """Scores of the history's items; users without any cannot be scored."""
        history = self._history(batch)
        scores = torch.zeros(batch.size * self.num_items, dtype=torch.float32)
        scores[history.users * self.num_items + history.items] = history.weights * self.propensity_I[history.items]
        return Scores(scores=scores.view(batch.size, self.num_items), can_score=history.known)

    def form(self, batch: UserBatch) -> Form:
        """The history's items alone."""
        history = self._history(batch)
        scores = history.weights * self.propensity_I[history.items]
        return Cells(history.offsets, history.items, scores, self.num_items, history.known)

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Scores of the given items, found among the history's."""
        history = self._history(batch)
        place = find_pairs(history.users * self.num_items + history.items, self._pairs(items_BK))
        padded = torch.cat([history.weights * self.propensity_I[history.items], torch.zeros(1)])
        return padded[place]  # place -1 is the padding zero

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        """Kind `repurchase`: the item itself where the user had it, and the median days between its purchase days.

        It is the whole score, so its share is 1.
        """
        wanted_BK = self._pairs(items_BK)
        keys = (batch.users * self.num_items + batch.items)[self._bought(batch)]
        had = find_pairs(keys.sort().values, wanted_BK) >= 0  # what was only viewed was not bought before
        pairs, medians = self._median_gaps(batch, wanted_BK)
        place = find_pairs(pairs, wanted_BK)
        values = torch.cat([medians, torch.full((1,), float("nan"))])[place]
        shares = torch.ones(items_BK.shape).masked_fill(~had | (self.score_items(batch, items_BK) == 0), torch.nan)
        return Evidence("repurchase", torch.where(had, items_BK, -1), values, shares=shares)

    def _history(self, batch: UserBatch) -> HistoryItems:
        return decayed_items(batch, self.num_items, self.half_life_days)

    def _bought(self, batch: UserBatch) -> Tensor:
        return torch.isin(batch.event_types, torch.tensor(self.purchase_types, dtype=torch.int64))

    def _pairs(self, items_BK: Tensor) -> Tensor:
        return torch.arange(items_BK.shape[0])[:, None] * self.num_items + items_BK

    def _median_gaps(self, batch: UserBatch, wanted_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Of the wanted keys (user x I + item) those bought on two days or more, and their median gaps in days."""
        keys = batch.users * self.num_items + batch.items
        bought = self._bought(batch)
        bought &= find_pairs(wanted_BK.flatten().sort().values, keys) >= 0
        days = torch.ceil(batch.ages[bought]).long().clamp_(0, MOST_DAYS - 1)  # days back: a day is (n-1, n]
        purchases = torch.unique(keys[bought] * MOST_DAYS + days)  # sorted by key, then by day
        of_key, day = purchases // MOST_DAYS, purchases % MOST_DAYS
        same = of_key[1:] == of_key[:-1]
        gap_keys, gaps = of_key[1:][same], (day[1:] - day[:-1])[same]
        order = torch.argsort(gaps, stable=True)
        order = order[torch.argsort(gap_keys[order], stable=True)]
        pairs, sizes = torch.unique_consecutive(gap_keys, return_counts=True)
        starts = torch.cumsum(sizes, 0) - sizes
        sorted_gaps = gaps[order].float()
        medians = (sorted_gaps[starts + (sizes - 1) // 2] + sorted_gaps[starts + sizes // 2]) / 2
        return pairs, medians

    def save(self, path: Path, vocabulary: Path) -> None:
        """Write the bundle."""
        config = {
            "kind": self.kind,
            "name": self.name,
            "num_items": self.num_items,
            "half_life_days": self.half_life_days,
            "purchase_types": list(self.purchase_types),
        }
        write_bundle(path, config, {"propensity": self.propensity_I}, vocabulary)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle."""
        return cls(
            str(bundle.config["name"]),
            bundle.tensors["propensity"],
            float(bundle.config["half_life_days"]),
            tuple(int(code) for code in bundle.config["purchase_types"]),
        )
