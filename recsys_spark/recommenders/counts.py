"""Counts: one score an item, the same for every user."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle, write_bundle
from recsys_spark.recommenders.forms import Form, SameRow
from recsys_spark.recommenders.trend import Trend


class Counts(Recommender):
    """Recommends what is popular, or on the rise; it can score everyone, also users without any history."""

    kind: ClassVar[str] = "counts"

    def __init__(
        self,
        name: str,
        scores_I: Tensor,
        half_life_days: float,
        reason: Literal["popular", "trending"] = "popular",
        trend: Trend | None = None,
    ) -> None:
        """`scores_I` [I] float32: made of the items' counts, decayed with `half_life_days`.

        `trend` is what they were made of, where live counts may be added.
        """
        super().__init__(name, int(scores_I.numel()))
        self.scores_I = scores_I
        self.half_life_days = half_life_days
        self.reason: Literal["popular", "trending"] = reason
        self.trend = trend

    def score(self, batch: UserBatch) -> Scores:
        """The counts, once for each user."""
        return Scores(
            scores=self.scores_I.repeat(batch.size, 1),
            can_score=torch.ones(batch.size, dtype=torch.bool),
        )

    def form(self, batch: UserBatch) -> Form:
        """One row for everyone."""
        return SameRow(self.scores_I, torch.ones(batch.size, dtype=torch.bool))

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """The counts of the given items."""
        return self.scores_I[items_BK]

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        """Kind `popular` or `trending`: no item, and the half-life in days over which it is so; falling items: none.

        The detail is the item's place among all, or how many times its usual count it has (the score is a logarithm).
        """
        values = torch.full(items_BK.shape, self.half_life_days)
        if self.reason == "trending":
            values[self.scores_I[items_BK] <= 0] = torch.nan

        def number(user: int, place: int) -> str:
            score = self.scores_I[items_BK[user, place]]
            if self.reason == "trending":
                return f"{score.exp().item():.1f} times the usual"
            ahead = self.num_items - int(torch.searchsorted(self._ascending, score, right=True))
            return f"number {ahead + 1}"

        return Evidence(self.reason, torch.full_like(items_BK, -1), values, number)

    @cached_property
    def _ascending(self) -> Tensor:
        return self.scores_I.sort().values

    def save(self, path: Path, vocabulary: Path) -> None:
        """Write the bundle."""
        config: dict[str, object] = {
            "kind": self.kind,
            "name": self.name,
            "num_items": self.num_items,
            "half_life_days": self.half_life_days,
            "reason": self.reason,
        }
        tensors = {"scores": self.scores_I}
        if self.trend is not None:
            tensors |= {"short": self.trend.short_I, "long": self.trend.long_I}
            config |= {"at": self.trend.at, "smoothing": self.trend.smoothing}
        write_bundle(path, config, tensors, vocabulary)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle."""
        config = bundle.config
        reason = config.get("reason", "popular")  # bundles before `trending` have none
        trend = None
        if "short" in bundle.tensors:  # not in bundles that were fitted before live counts could be added
            tensors = (bundle.tensors["short"], bundle.tensors["long"])
            trend = Trend(*tensors, float(config["at"]), float(config["smoothing"]))
        return cls(str(config["name"]), bundle.tensors["scores"], float(config["half_life_days"]), reason, trend)
