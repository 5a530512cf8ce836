"""What a fitted recommender is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.bundle import Bundle


@dataclass(frozen=True)
class Scores:
    """Scores of B users over the I items of the vocabulary: higher is better."""

    scores: Tensor
    """[B, I] float32, finite; rows of users that cannot be scored are zero. The caller may write into it."""
    can_score: Tensor
    """[B] bool: has the recommender anything to say about the user."""


def no_detail(user: int, place: int) -> str:
    """No further word on a pair."""
    return ""


@dataclass(frozen=True)
class Evidence:
    """Why items were recommended: one kind of reason, with an item of the history or a number for each pair."""

    kind: str
    """`popular`, `trending`, `popular_among`, `repurchase`, `bought_with`, `because_of`, `similar` or `similar_text`;
    `fusion.reasons` puts them into words."""
    items: Tensor
    """[B, K] int64: code of the history item that speaks most for the pair, -1 where there is none."""
    values: Tensor
    """[B, K] float32: the reason's number, NaN where there is none: days between purchases for `repurchase`, the
    half-life in days for `popular`, `trending` and `popular_among`, which name no item."""
    detail: Callable[[int, int], str] = no_detail
    """What else is to be said of user b's item k, asked for the reasons that are given: the segment's name for
    `popular_among`, words in common for `similar_text`; empty where there is nothing."""


class Recommender(ABC):
    """Scores batches of users over the catalogue from their histories alone: nothing of users is stored.

    Fitted recommenders are bundles on disk: `save` writes one, `load` reads one whose hashes were checked.
    """

    kind: ClassVar[str]
    """The name under which bundles of this class are registered in `recommenders.registry`."""
    silent_score: ClassVar[float | None] = None
    """The score of items of which the recommender has nothing to say, where it has one: such items are in no list."""

    def __init__(self, name: str, num_items: int) -> None:
        self.name = name
        self.num_items = num_items

    @abstractmethod
    def score(self, batch: UserBatch) -> Scores:
        """Scores [B, I] of every item for every user of the batch."""

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Scores [B, K] float32 of the given item codes; equals `score` gathered at them, and may be cheaper."""
        return torch.gather(self.score(batch).scores, 1, items_BK)

    @abstractmethod
    def evidence(self, batch: UserBatch, items_BK: Tensor) -> Evidence:
        """Why the given items were recommended."""

    @abstractmethod
    def save(self, path: Path, vocabulary: Path) -> None:
        """Write a bundle to the new directory `path`; `vocabulary` is the fit's vocabulary file, copied into it."""

    @classmethod
    @abstractmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle."""
