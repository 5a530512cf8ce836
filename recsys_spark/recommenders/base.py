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
from recsys_spark.recommenders.forms import Form, Matrix

LEFT_OUT = 5
"""The default of `Recommender.left_out`."""


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
    """What else is to be said of user b's item k, asked for the reasons that are given: the place for `popular`, the
    segment's name for `popular_among`, words in common for `similar_text`; empty where there is nothing."""
    shares: Tensor | None = None
    """[B, K] float32: by what share of its size |score| the recommender's score of the pair falls when all events of
    the named item leave the history, the rest of it staying as it was: 1 where nothing is left to score by. NaN where
    no item is named, and where the score is 0 or the recommender cannot tell. None: nowhere."""


class Recommender(ABC):
    """Scores batches of users over the catalogue from their histories alone: nothing of users is stored.

    Fitted recommenders are bundles on disk: `save` writes one, `load` reads one whose hashes were checked.
    """

    kind: ClassVar[str]
    """The name under which bundles of this class are registered in `recommenders.registry`."""
    silent_score: ClassVar[float | None] = None
    """The score of items of which the recommender has nothing to say, where it has one: such items are in no list."""
    left_out: int = LEFT_OUT
    """Where a score is no sum over the history: how many items, those met last, are left out of it one at a time to
    find the evidence. 0: none, and the item most alike is named, without a share."""

    def __init__(self, name: str, num_items: int) -> None:
        self.name = name
        self.num_items = num_items

    @abstractmethod
    def score(self, batch: UserBatch) -> Scores:
        """Scores [B, I] of every item for every user of the batch."""

    def form(self, batch: UserBatch) -> Form:
        """The scores in the form that is summed up most cheaply; equal to `score` for users who can be scored."""
        result = self.score(batch)
        return Matrix(result.scores, result.can_score)

    def can_score(self, batch: UserBatch) -> Tensor:
        """[B] bool: has it anything to say about the user; equals that of `score`, and may be cheaper."""
        return self.form(batch).can_score

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Scores [B, K] float32 of the given item codes; equals `score` gathered at them, and may be cheaper."""
        return torch.gather(self.score(batch).scores, 1, items_BK)

    @property
    def item_vectors(self) -> Tensor | None:
        """[I, D] vectors of the items, alike where their cosine is large; None where it has none."""
        return None

    @abstractmethod
    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        """Why the given items were recommended.

        `wanted_BK` [B, K] bool says for which pairs it is asked, by default for all: where evidence is costly, the
        others get none (item -1).
        """

    @abstractmethod
    def save(self, path: Path, vocabulary: Path) -> None:
        """Write a bundle to the new directory `path`; `vocabulary` is the fit's vocabulary file, copied into it."""

    @classmethod
    @abstractmethod
    def load(cls, bundle: Bundle) -> Self:
        """The recommender of a bundle."""
