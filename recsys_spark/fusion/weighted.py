"""Average, weighted and single: the sum of normalised scores over the whole catalogue, component by component.

Users may be divided into groups (segments), each with components, weights and normalisers of its own. Besides the
running sum there is one component's block at a time. Legend: B users, G users of a group, I items, K list length, M
components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recsys_spark.fusion.blended import Blend
from recsys_spark.fusion.normalise import (
    RANK_DEPTH,
    RANK_OFFSET,
    RowStatistics,
    form_statistics,
    normalise,
    reciprocals,
    row_statistics,
    stable_topk,
)
from recsys_spark.fusion.settings import Component
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.forms import Cells, Form, Sums


@dataclass(frozen=True)
class ComponentBlock:
    """What is kept of a component after its block of scores is gone."""

    component: Component
    can_score: Tensor
    """[G] bool."""
    statistics: RowStatistics
    top: Tensor | None
    """[G, RANK_DEPTH] codes in order, for the rank normaliser."""

    def normalised(self, scores_GK: Tensor, items_GK: Tensor) -> Tensor:
        """Normalised scores [G, K] of the given items, whose raw scores are `scores_GK`."""
        if self.top is None:
            return normalise(scores_GK, self.component.normaliser, self.statistics)
        places = self.top[:, None, :] == items_GK[:, :, None]
        ranks = torch.argmax(places.to(torch.int8), dim=2) + 1
        return torch.where(places.any(dim=2), 1.0 / (RANK_OFFSET + ranks), 0.0)


@dataclass
class Group:
    """Users of a block that are fused by the same components."""

    rows: Tensor | None
    """[G] int64 rows of the block; None where they are all of it."""
    components: Sequence[Component]
    sums: Sums | None = None
    """[G, I] the sums so far."""
    blocks: dict[str, ComponentBlock] = field(default_factory=dict)

    def take(self, name: str, form: Form) -> None:
        """Add a component's scores to the sum, if it is one of the group's."""
        for component in self.components:
            if component.name == name:
                mine = form if self.rows is None else form.of(self.rows)
                if self.sums is None:
                    self.sums = Sums(mine.can_score.numel(), mine.num_items)
                self.blocks[name] = _add(component, mine, self.sums)
                if self.rows is not None:
                    self.sums.release()  # else the copies of some rows would pile up

    def settle(self) -> tuple[Tensor, Tensor]:
        """Fused scores [G, I] and weights [G, M]: each user's are renormalised over the components that can score."""
        assert self.sums is not None, "a fusion has at least one component"
        weights = torch.tensor([component.weight for component in self.components])
        can = torch.stack([self.blocks[component.name].can_score for component in self.components], dim=1)
        weights_GM = can * weights
        sums = weights_GM.sum(dim=1, keepdim=True)
        weights_GM = weights_GM / sums.clamp_min(1e-12) * weights.sum()
        total_GI = self.sums.total()
        partly = torch.nonzero(~can.all(dim=1)).flatten()
        total_GI[partly] *= weights.sum() / sums[partly].clamp_min(1e-12)
        return total_GI, weights_GM


class WeightedSum:
    """The fusion of one block."""

    def __init__(self, groups: Sequence[Group], size: int) -> None:
        """`groups` divide the `size` users of the block among them."""
        self._groups = groups
        self._size = size
        listed = [component.name for group in groups for component in group.components]
        self._names = tuple(dict.fromkeys(listed))

    def wants(self, name: str) -> bool:
        """The components of any group."""
        return name in self._names

    def take(self, name: str, form: Form) -> None:
        """Add a component's scores to the sums."""
        for group in self._groups:
            group.take(name, form)

    def finish(self, recommenders: Mapping[str, Recommender], batch: UserBatch) -> Blend:
        """The sums."""
        settled = [group.settle() for group in self._groups]
        weights_BM = torch.zeros(self._size, len(self._names))
        for group, (_, weights) in zip(self._groups, settled, strict=True):
            rows = _rows(group, self._size)
            places = torch.tensor([self._names.index(component.name) for component in group.components])
            weights_BM[rows[:, None], places] = weights
        if self._groups[0].rows is None:
            fused = settled[0][0]
        else:
            fused = torch.empty(self._size, settled[0][0].shape[1])
            for group, (total, _) in zip(self._groups, settled, strict=True):
                fused[group.rows] = total
        for group in self._groups:
            group.sums = None
        return Blend(fused, self._names, weights_BM, _Kept(self._groups, self._names, weights_BM))


@dataclass(frozen=True)
class _Kept:
    groups: Sequence[Group]
    names: tuple[str, ...]
    weights_BM: Tensor

    def parts(self, recommenders: Mapping[str, Recommender], batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Normalised scores times weights."""
        parts_BKM = torch.full((*items_BK.shape, len(self.names)), torch.nan)
        for place, name in enumerate(self.names):
            scores_BK = recommenders[name].score_items(batch, items_BK)
            for group in self.groups:
                if name in group.blocks:
                    rows = _rows(group, len(items_BK))
                    normal = group.blocks[name].normalised(scores_BK[rows], items_BK[rows])
                    parts_BKM[rows, :, place] = normal * self.weights_BM[rows, place, None]
        return torch.where(self.weights_BM[:, None, :] > 0, parts_BKM, torch.nan)


def _rows(group: Group, size: int) -> Tensor:
    return torch.arange(size) if group.rows is None else group.rows


def _add(component: Component, form: Form, sums: Sums) -> ComponentBlock:
    """Add normalised scores times the weight to the sums; returns what is kept."""
    weights_G = component.weight * form.can_score
    method, top = component.normaliser.method, None
    if method in ("none", "zscore"):
        statistics = form_statistics(form, component.normaliser)
        factors_G = weights_G / statistics.deviation[:, 0]
        form.add_to(sums, factors_G)
        if method == "zscore":
            sums.add_offsets(-factors_G * statistics.mean[:, 0])
    elif method == "softmax":
        statistics = row_statistics(form.matrix_BI, component.normaliser)
        sums.add_matrix(normalise(form.matrix_BI, component.normaliser, statistics), weights_G)
    else:
        statistics = form_statistics(form, component.normaliser)
        top = stable_topk(form.matrix_BI, RANK_DEPTH)
        offsets = torch.arange(0, top.numel() + 1, top.shape[1])
        values = reciprocals(top.shape[1]).repeat(len(top))
        Cells(offsets, top.flatten(), values, form.num_items, form.can_score).add_to(sums, weights_G)
    return ComponentBlock(component, form.can_score, statistics, top)
