"""Counts: one score an item, the same for every user."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle, write_bundle


class Counts(Recommender):
    """Recommends what is popular; it can score everyone, also users without any history."""

    kind: ClassVar[str] = "counts"

    def __init__(self, name: str, scores_I: Tensor, half_life_days: float) -> None:
        """`scores_I` [I] float32: the items' counts, decayed with `half_life_days`."""
        super().__init__(name, int(scores_I.numel()))
        self.scores_I = scores_I
        self.half_life_days = half_life_days

    def score(self, batch: UserBatch) -> Scores:
        """The counts, once for each user."""
        return Scores(
            scores=self.scores_I.repeat(batch.size, 1),
            can_score=torch.ones(batch.size, dtype=torch.bool),
        )

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """The counts of the given items."""
        return self.scores_I[items_BK]

    def evidence(self, batch: UserBatch, items_BK: Tensor) -> Evidence:
        """Kind `popular`: no item, and the half-life in days over which it is popular."""
        return Evidence(
            kind="popular",
            items=torch.full_like(items_BK, -1),
            values=torch.full(items_BK.shape, self.half_life_days),
        )

    def save(self, path: Path, vocabulary: Path) -> None:
        """Write the bundle."""
        config = {
            "kind": self.kind,
            "name": self.name,
            "num_items": self.num_items,
            "half_life_days": self.half_life_days,
        }
        write_bundle(path, config, {"scores": self.scores_I}, vocabulary)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle."""
        return cls(str(bundle.config["name"]), bundle.tensors["scores"], float(bundle.config["half_life_days"]))
