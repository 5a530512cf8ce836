"""What a fusion gives for a block of users, and what every way of fusing is: the one interface of all four.

Legend: B users, I items, K list length, M parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.forms import Form

CONTEXT = "context"
"""The part that belongs to no recommender: what is known of item, user and time alone."""


class Parts(Protocol):
    """What a blend keeps of its components once their blocks of scores are gone."""

    def parts(self, recommenders: Mapping[str, Recommender], batch: UserBatch, items_BK: Tensor) -> Tensor:
        """[B, K, M] float32: each part of the fused scores of the given items, NaN where a part took none."""
        ...


@dataclass(frozen=True)
class Blend:
    """Fused scores of a block."""

    fused: Tensor
    """[B, I] float32; -inf where an item is none of the user's candidates."""
    names: tuple[str, ...]
    """The M parts: components, and CONTEXT."""
    weights: Tensor
    """[B, M] float32: above 0 where the part took part for the user; a user's row is 0 where only the fallback did."""
    source: Parts

    def parts(self, recommenders: Mapping[str, Recommender], batch: UserBatch, items_BK: Tensor) -> Tensor:
        """[B, K, M] float32 parts of the given items, NaN where a part took none; a row adds up to its fused score."""
        return self.source.parts(recommenders, batch, items_BK)


class Fusing(Protocol):
    """A fusion at work on one block: it sees every component's scores pass by, one block at a time."""

    def wants(self, name: str) -> bool:
        """Does it need the component's scores over the whole catalogue."""
        ...

    def take(self, name: str, form: Form) -> None:
        """See one component's scores [B, I], in whatever form they are; it does not write into them."""
        ...

    def finish(self, recommenders: Mapping[str, Recommender], batch: UserBatch) -> Blend:
        """The fused scores, after every wanted component was seen; users whom nothing scored have weights 0."""
        ...
