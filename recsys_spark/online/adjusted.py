"""Recommenders as online learning left them: the champion's user side, and an item side with some rows moved.

User vectors stay what they are, whatever was learned: the encoder reads the champion's item vectors, and a moved row
changes how its item is scored, not how a history that holds it is read. Letters as in `recommenders.batch`; T rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys_spark.models.history_scorer import HistoryScorer
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.factors import Factors
from recsys_spark.recommenders.forms import ItemSide, Product
from recsys_spark.recommenders.neural import NeuralRecommender

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Moved:
    """What is added to T rows of an item side."""

    codes: Tensor
    """[T] int64, each once."""
    vectors: Tensor
    """[T, D] float32; D is 0 where vectors stay."""
    biases: Tensor
    """[T] float32."""


class MovedSide(ItemSide):
    """An item side with some rows moved; its moments follow from the champion's and the moved rows alone."""

    def __init__(self, side: ItemSide, moved: Moved) -> None:
        biases_I = None if side.biases_I is None else side.biases_I.index_add(0, moved.codes, moved.biases)
        super().__init__(side.items_ID.index_add(0, moved.codes, moved.vectors), biases_I)
        self._champion = side
        self._codes = moved.codes

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """As of ItemSide, by T products instead of I."""
        mean, covariance = self._champion.moments
        count = len(self.items_ID)
        old_TE, new_TE = self._champion.rows(self._codes) - mean, self.rows(self._codes) - mean
        step = (new_TE - old_TE).sum(0) / count
        moved = covariance + (new_TE.T @ new_TE - old_TE.T @ old_TE) / count - torch.outer(step, step)
        return mean + step, moved


class _AsLearned:
    """A published recommender of which some rows are scored as they were learned."""

    champion: NeuralRecommender | Factors
    _moved: Moved

    @cached_property
    def _side(self) -> ItemSide:
        return MovedSide(self.champion._side, self._moved)

    def save(self, path: Path, vocabulary: Path) -> None:
        """Not possible: what was learned online is kept by the online store."""
        raise NotImplementedError("online parameters are no bundle")


class MovedNeural(_AsLearned, NeuralRecommender):
    """A trained network whose items' biases, and where its scorer is a product their vectors, have moved."""

    def __init__(self, champion: NeuralRecommender, moved: Moved) -> None:
        own = champion._scorer
        factorises = bool(own.scorer.factorises)
        scorer = HistoryScorer(
            user_side=own.user_side,
            scorer=own.scorer,
            vectors_ID=own.vectors_ID,
            biases_I=own.biases_I.index_add(0, moved.codes, moved.biases),
            side_ID=own.side_ID.index_add(0, moved.codes, moved.vectors) if factorises else own.side_ID,
        )
        super().__init__(champion.name, champion.composition, scorer, champion._for_new_items, champion.affinity)
        self.left_out = champion.left_out
        self.champion = champion
        self._moved = moved


class MovedFactors(_AsLearned, Factors):
    """Factors whose items' vectors have moved where they are scored; histories are folded in by the champion's."""

    def __init__(self, champion: Factors, moved: Moved) -> None:
        super().__init__(
            champion.name, champion.vectors_ID, champion.gram_DD, champion.reg, champion.alpha, champion.half_life_days
        )
        self.left_out = champion.left_out
        self.champion = champion
        self._moved = moved


def moved_recommender(champion: Recommender, moved: Moved) -> Recommender:
    """The recommender with some rows moved. `champion` is one of which `learnable` has something to say."""
    if isinstance(champion, NeuralRecommender):
        return MovedNeural(champion, moved)
    assert isinstance(champion, Factors)
    return MovedFactors(champion, moved)


def champion_of(recommender: Recommender) -> Recommender:
    """The recommender as it was published."""
    return recommender.champion if isinstance(recommender, MovedNeural | MovedFactors) else recommender


@dataclass(frozen=True)
class Learnable:
    """What online learning needs of a recommender, as it was published."""

    loss: Literal["softmax", "squared"]
    """Softmax for networks, whichever loss they were trained with; squared for factors, whose scores are shares."""
    users: Callable[[UserBatch], tuple[Tensor, Tensor]]
    """Users' sides [B, E], rows of zeros for those who cannot be scored, and can_score [B]."""
    pairs: Callable[[Tensor, Tensor], Tensor]
    """Scores [B, K] of item codes [B, K] for users' sides [B, E]."""
    vectors_ID: Tensor | None
    """The items' side whose product with a user's is the score; None where the score is no product: biases alone are
    learned."""
    biases: bool
    """Have items biases."""

    @property
    def width(self) -> int:
        """Numbers of a row's vector that are learned."""
        return 0 if self.vectors_ID is None else int(self.vectors_ID.shape[1])


def learnable(recommender: Recommender) -> Learnable | None:
    """What can be learned of a recommender online.

    None for those without item vectors of their own, for networks with an affinity, whose scores are more than their
    sides, and for those with a table of users, who are not known by their histories.
    """
    champion = champion_of(recommender)
    if isinstance(champion, NeuralRecommender):
        sides_alone = champion.affinity is None and not champion.composition.num_users
        return _learnable_network(champion) if sides_alone else None
    if isinstance(champion, Factors):
        return _learnable_factors(champion)
    return None


def _learnable_network(network: NeuralRecommender) -> Learnable:
    scorer = network._scorer

    def users(batch: UserBatch) -> tuple[Tensor, Tensor]:
        can_B = network.can_score(batch)
        users_BE = torch.zeros(batch.size, scorer.side_ID.shape[1])
        if bool(can_B.any()):
            users_BE[can_B] = network._users(batch, can_B)
        return users_BE, can_B

    vectors_ID = scorer.side_ID if scorer.scorer.factorises else None
    return Learnable("softmax", users, scorer.pairs, vectors_ID, biases=True)


def _learnable_factors(factors: Factors) -> Learnable:
    def users(batch: UserBatch) -> tuple[Tensor, Tensor]:
        form = factors.form(batch)
        assert isinstance(form, Product)
        return form.users_BD, form.can_score

    def pairs(users_BD: Tensor, codes_BK: Tensor) -> Tensor:
        return torch.einsum("bd,bkd->bk", users_BD, factors.vectors_ID[codes_BK])

    return Learnable("squared", users, pairs, factors.vectors_ID, biases=False)
