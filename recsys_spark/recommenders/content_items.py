"""Item-item by text: the neighbours of each item are those of similar words, and the reason names words in common."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from torch import Tensor

from recsys_spark.recommenders.base import Evidence
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.item_item import NeighbourItems

MOST_WORDS = 2
"""Words in common that a reason names."""


class ContentItems(NeighbourItems):
    """Item-item with the neighbours that the items' words give."""

    kind: ClassVar[str] = "content_items"
    tensor_names: ClassVar[tuple[str, ...]] = (*NeighbourItems.tensor_names, "keywords_IW", "text")

    def __init__(
        self,
        name: str,
        indptr: Tensor,
        neighbours: Tensor,
        similarities: Tensor,
        half_life_days: float,
        keywords_IW: Tensor,
        text: Tensor,
    ) -> None:
        """As NeighbourItems, and `keywords_IW` [I, W] int32: places of each item's keywords, strongest first.

        -1 stands behind the last one. `text` uint8: all keywords, a line each.
        """
        super().__init__(name, indptr, neighbours, similarities, half_life_days)
        self.keywords_IW = keywords_IW
        self.text = text

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        """Kind `similar_text`: the history item with the largest term, and keywords that both items have."""
        spoken = super().evidence(batch, items_BK)

        def in_common(user: int, place: int) -> str:
            return self._in_common(int(spoken.items[user, place]), int(items_BK[user, place]))

        return Evidence("similar_text", spoken.items, spoken.values, in_common, spoken.shares)

    def _in_common(self, one: int, other: int) -> str:
        if one < 0:
            return ""
        others = set(self.keywords_IW[other].tolist()) - {-1}
        common = [place for place in self.keywords_IW[one].tolist() if place in others]
        return ", ".join(self._words[place] for place in common[:MOST_WORDS])

    @cached_property
    def _words(self) -> list[str]:
        return bytes(self.text.numpy()).decode().split("\n")
