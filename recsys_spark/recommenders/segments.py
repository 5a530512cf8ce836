"""Popularity by segment: what is popular among users like this one."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle, write_bundle
from recsys_spark.recommenders.segmenting import ByActivity, ByCategory


class SegmentCounts(Recommender):
    """Recommends what is popular in the user's segment; users of no segment get what is popular among all.

    It can score everyone. Letters as in `segmenting`.
    """

    kind: ClassVar[str] = "segment_counts"

    def __init__(
        self,
        name: str,
        shares_SI: Tensor,
        segmenter: ByCategory | ByActivity,
        names: tuple[str, ...],
        half_life_days: float,
    ) -> None:
        """`shares_SI` [S+1, I] float32: shares of each segment's events, row 0 of all users; `names` [S+1] in words."""
        super().__init__(name, int(shares_SI.shape[1]))
        self.shares_SI = shares_SI
        self.segmenter = segmenter
        self.names = names
        self.half_life_days = half_life_days

    def score(self, batch: UserBatch) -> Scores:
        """The shares of each user's segment."""
        scores_BI = self.shares_SI.index_select(0, self.segmenter.of(batch))
        return Scores(scores=scores_BI, can_score=torch.ones(batch.size, dtype=torch.bool))

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """The shares of the given items."""
        return self.shares_SI[self.segmenter.of(batch)[:, None], items_BK]

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        """Kind `popular_among`: no item, the half-life in days, the segment in words and the item's share of it."""
        segments_B = self.segmenter.of(batch)
        names = [self.names[segment] for segment in segments_B.tolist()]

        def among(user: int, place: int) -> str:
            share = self.shares_SI[segments_B[user], items_BK[user, place]].item()
            return f"{names[user]} ({100 * share:.2g}% of what they choose)" if names[user] else ""

        return Evidence(
            kind="popular_among",
            items=torch.full_like(items_BK, -1),
            values=torch.full(items_BK.shape, self.half_life_days),
            detail=among,
        )

    def save(self, path: Path, vocabulary: Path) -> None:
        """Write the bundle."""
        config = {
            "kind": self.kind,
            "name": self.name,
            "num_items": self.num_items,
            "half_life_days": self.half_life_days,
            "names": list(self.names),
            "history_half_life_days": self.segmenter.half_life_days,
        }
        if isinstance(self.segmenter, ByCategory):
            segments = {"item_segments": self.segmenter.segments_I}
        else:
            segments = {"edges": self.segmenter.edges}
        write_bundle(path, config, {"shares": self.shares_SI, **segments}, vocabulary)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle."""
        config, tensors = bundle.config, bundle.tensors
        half_life, names = float(config["history_half_life_days"]), tuple(str(name) for name in config["names"])
        segmenter: ByCategory | ByActivity
        if "item_segments" in tensors:
            segmenter = ByCategory(tensors["item_segments"], len(names) - 1, half_life)
        else:
            segmenter = ByActivity(tensors["edges"], half_life)
        return cls(str(config["name"]), tensors["shares"], segmenter, names, float(config["half_life_days"]))
