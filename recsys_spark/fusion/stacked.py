"""Stacked: trees rank the union of the components' best items by scores and by what is known of user and item.

The items of all users of a block are ranked at once. Legend: B users, I items, C candidates of a user (padded), N
candidates of all users end to end, F features, K list length, M components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.fusion.blended import CONTEXT, Blend
from recsys_spark.fusion.features import ComponentScores, feature_names, feature_owners, features
from recsys_spark.fusion.item_columns import ItemColumns
from recsys_spark.fusion.retrieval import Proposals, Retrieved
from recsys_spark.fusion.trees import Trees
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.forms import Form

KEPT_BYTES = 1 << 25
"""Up to this size all components' scores of a block are kept: those of a few users who are waited for."""


@dataclass(frozen=True)
class CandidateFeatures:
    """The candidates of a block with what the trees see of them."""

    retrieved: Retrieved
    can_BM: Tensor
    """[B, M] bool: which components can score the user."""
    features_NF: Tensor
    """The rows of users one after the other, items ascending."""


class FeatureMaker:
    """Makes the features of a block: the same for training and for serving."""

    def __init__(
        self,
        names: Sequence[str],
        depth: int,
        columns: ItemColumns,
        target: Tensor,
        batch: UserBatch,
        silent: Mapping[str, float | None],
    ) -> None:
        """`target` [events] bool: which of the batch's events count as purchases."""
        self._names = names
        self._columns = columns
        self._target = target
        self._silent = silent
        seen = (batch.users[target], batch.items[target])
        self._proposals = Proposals(depth, seen, columns.num_items)
        self._kept: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        few = 4 * batch.size * columns.num_items * len(names) <= KEPT_BYTES
        self._matrices: dict[str, Tensor] | None = {} if few else None

    def take(self, name: str, form: Form) -> None:
        """See one component's scores over the catalogue."""
        mean, deviation = form.mean_and_deviation()
        self._kept[name] = (mean, deviation, form.can_score)
        self._proposals.add(form.matrix_BI, form.can_score, self._silent[name])
        if self._matrices is not None:
            self._matrices[name] = form.matrix_BI

    def made(self, recommenders: Mapping[str, Recommender], batch: UserBatch) -> CandidateFeatures:
        """The candidates and their features, after every component was seen."""
        retrieved = self._proposals.union()
        present = retrieved.present_BC
        users_N, _ = torch.nonzero(present, as_tuple=True)
        items_N = retrieved.items_BC[present]
        scored = {}
        for name in self._names:
            mean, deviation, can_score = self._kept[name]
            scores_BC = self._scores(recommenders[name], batch, retrieved.items_BC)
            scored[name] = ComponentScores(
                scores_N=scores_BC[present],
                z_N=((scores_BC - mean) / deviation)[present],
                rank_N=_ranks(scores_BC, present)[present],
                can_N=can_score[users_N],
            )
        features_NF = features(batch, self._target, self._columns, scored, users_N, items_N)
        can_BM = torch.stack([self._kept[name][2] for name in self._names], dim=1)
        return CandidateFeatures(retrieved, can_BM, features_NF)

    def _scores(self, recommender: Recommender, batch: UserBatch, items_BC: Tensor) -> Tensor:
        """[B, C] the recommender's scores of the candidates: looked up where they are still there."""
        if self._matrices is None:
            return recommender.score_items(batch, items_BC)
        return self._matrices[recommender.name].gather(1, items_BC)


class StackedSum:
    """The fusion of one block."""

    def __init__(self, names: Sequence[str], trees: Trees, maker: FeatureMaker, num_items: int) -> None:
        assert trees.features == feature_names(names), "the trees were trained on other features"
        self._names = tuple(names)
        self._trees = trees
        self._maker = maker
        self._num_items = num_items

    def wants(self, name: str) -> bool:
        """The components."""
        return name in self._names

    def take(self, name: str, form: Form) -> None:
        """Keep the best items of a component."""
        self._maker.take(name, form)

    def finish(self, recommenders: Mapping[str, Recommender], batch: UserBatch) -> Blend:
        """The trees' scores of the candidates."""
        made = self._maker.made(recommenders, batch)
        present = made.retrieved.present_BC
        scores_BC = torch.zeros(present.shape)
        scores_BC[present] = self._trees.scores(made.features_NF)
        fused = made.retrieved.over_catalogue(scores_BC, self._num_items)
        served = present.any(dim=1)
        weights_BM = torch.cat([made.can_BM & served[:, None], served[:, None]], dim=1).float()
        return Blend(fused, (*self._names, CONTEXT), weights_BM, _Kept(self._names, self._trees, made, weights_BM))


@dataclass(frozen=True)
class _Kept:
    names: tuple[str, ...]
    trees: Trees
    made: CandidateFeatures
    weights_BM: Tensor

    def parts(self, recommenders: Mapping[str, Recommender], batch: UserBatch, items_BK: Tensor) -> Tensor:
        """TreeSHAP contributions, summed by component; what no component of the user owns is CONTEXT's."""
        present = self.made.retrieved.present_BC
        first = torch.cumsum(present.sum(dim=1), 0) - present.sum(dim=1)
        place_BK = self.made.retrieved.places_of(items_BK)
        known = place_BK >= 0
        rows = (first[:, None] + place_BK)[known]
        owners = (*feature_owners(self.names), CONTEXT)  # the bias is the last
        names = (*self.names, CONTEXT)
        parts = self.trees.shares(self.made.features_NF[rows], tuple(names.index(owner) for owner in owners))
        users = torch.nonzero(known, as_tuple=True)[0]
        silent = self.weights_BM[users] == 0  # an unknown score moves the trees too
        parts[:, -1] += (parts * silent).sum(dim=1)
        parts[silent] = torch.nan
        parts_BKM = torch.full((*items_BK.shape, parts.shape[1]), torch.nan)
        parts_BKM[known] = parts.float()
        return parts_BKM


def _ranks(scores_BC: Tensor, present_BC: Tensor) -> Tensor:
    """[B, C] float32 1, 2, ... by score, equals in the order of their codes."""
    ordered = torch.where(present_BC, scores_BC, -torch.inf)
    order = torch.argsort(ordered, dim=1, descending=True, stable=True)
    ranks = torch.arange(1, order.shape[1] + 1, dtype=torch.float32).expand(order.shape)
    return torch.empty(order.shape).scatter_(1, order, ranks)
