"""Which items are like one: by the vectors of one recommender of a fused model, else by neighbours. I items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fusion.model import FusedModel
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.ease import DenseItems
from recsys_spark.recommenders.item_item import NeighbourItems


@dataclass(frozen=True)
class Likeness:
    """How a model compares items."""

    name: str
    """The recommender that it goes by."""
    vectors_ID: Tensor | None = None
    """Its item vectors."""
    item_item: Recommender | None = None
    """The recommender itself, where it knows items by their neighbours instead."""

    def of(self, code: int) -> Tensor:
        """[I] float32: the likeness of each item with the one of `code`; not above 0 where they have nothing in common.

        By neighbours: what the history of that item alone, just bought, makes of the others.
        """
        if self.item_item is None:
            return self._directions_ID @ self._directions_ID[code]
        one = torch.tensor([0])
        bought = UserBatch(
            one + code, one + EVENT_TYPES.index("purchase"), one.float() + 1, one.double(), torch.arange(2)
        )
        return self.item_item.score(bought).scores[0]

    @cached_property
    def _directions_ID(self) -> Tensor:  # noqa: N802 - its name carries its shape
        assert self.vectors_ID is not None
        return F.normalize(self.vectors_ID.detach().float(), dim=1)


def likeness(model: FusedModel) -> Likeness | None:
    """By cosine of the vectors of the recommender that weighs most in the fusion, among those that have vectors.

    Where none has: by the item-item one that weighs most, by text alone last. None where there is none either.
    """
    weights = {part.name: part.weight for part in model.settings[model.default_repeats].components}
    order = sorted(model.recommenders, key=lambda name: -weights.get(name, 0.0))
    for name in order:
        vectors_ID = model.recommenders[name].item_vectors
        if vectors_ID is not None:
            return Likeness(name, vectors_ID=vectors_ID)
    for name in sorted(order, key=lambda name: name == "content_knn"):
        if isinstance(model.recommenders[name], NeighbourItems | DenseItems):
            return Likeness(name, item_item=model.recommenders[name])
    return None
