"""The weighted sum of normalised scores over a block of users, component by component.

At no time are the scores of all components held over the whole catalogue: besides the running sum there is one
component's block. Legend: B users, I items, K list length, M components.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.fusion.normalise import (
    RANK_DEPTH,
    RANK_OFFSET,
    RowStatistics,
    normalise,
    reciprocal_ranks,
    row_statistics,
    stable_topk,
)
from recsys_spark.fusion.settings import Component, FusionSettings
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch


@dataclass(frozen=True)
class ComponentBlock:
    """What is kept of a component after its block of scores is gone."""

    component: Component
    can_score: Tensor
    """[B] bool."""
    statistics: RowStatistics
    top: Tensor | None
    """[B, RANK_DEPTH] codes in order, for the rank normaliser."""

    def parts(self, recommender: Recommender, batch: UserBatch, items_BK: Tensor) -> Tensor:
        """Normalised scores [B, K] of the given items."""
        if self.top is None:
            scores = recommender.score_items(batch, items_BK)
            return normalise(scores, self.component.normaliser, self.statistics)
        places = self.top[:, None, :] == items_BK[:, :, None]
        ranks = torch.argmax(places.to(torch.int8), dim=2) + 1
        return torch.where(places.any(dim=2), 1.0 / (RANK_OFFSET + ranks), 0.0)


@dataclass(frozen=True)
class Blend:
    """Fused scores of a block."""

    fused: Tensor
    """[B, I] float32."""
    blocks: tuple[ComponentBlock, ...]
    weights: Tensor
    """[B, M] weight of each component for each user: 0 where it cannot score, renormalised over the others."""


Observer = Callable[[str, Tensor, Tensor], None]
"""Called with a component's name, its raw scores [B, I] and can_score [B] while they exist."""


def blend(
    recommenders: Mapping[str, Recommender],
    settings: Sequence[FusionSettings],
    batch: UserBatch,
    fallback: Recommender | None,
    observe: Observer | None = None,
) -> list[Blend]:
    """Fuse a block under each of the settings; every recommender scores once, whatever the number of settings.

    Users whom no component of a setting can score take the scores of `fallback`, which needs no history, as they are.
    """
    taking_part = {component.name for setting in settings for component in setting.components}
    sums: list[Tensor | None] = [None] * len(settings)
    blocks: list[dict[str, ComponentBlock]] = [{} for _ in settings]
    for name, recommender in recommenders.items():
        if name not in taking_part and observe is None:
            continue
        result = recommender.score(batch)
        if observe is not None:
            observe(name, result.scores, result.can_score)
        for position, setting in enumerate(settings):
            for component in setting.components:
                if component.name == name:
                    part, block = _part(component, result.scores, result.can_score)
                    blocks[position][name] = block
                    scaled = part.mul_((component.weight * result.can_score)[:, None])
                    total = sums[position]
                    sums[position] = scaled if total is None else total.add_(scaled)
        del result
    return [
        _renormalise(setting, total, found, batch, fallback)
        for setting, total, found in zip(settings, sums, blocks, strict=True)
    ]


def _part(component: Component, scores: Tensor, can_score: Tensor) -> tuple[Tensor, ComponentBlock]:
    statistics = row_statistics(scores, component.normaliser)
    if component.normaliser.method == "rank":
        top = stable_topk(scores, RANK_DEPTH)
        return reciprocal_ranks(top, scores.shape[1]), ComponentBlock(component, can_score, statistics, top)
    part = normalise(scores, component.normaliser, statistics)
    if part is scores:
        part = scores.clone()
    return part, ComponentBlock(component, can_score, statistics, None)


def _renormalise(
    setting: FusionSettings,
    total: Tensor | None,
    found: Mapping[str, ComponentBlock],
    batch: UserBatch,
    fallback: Recommender | None,
) -> Blend:
    assert total is not None, "a fusion has at least one component"
    blocks = tuple(found[component.name] for component in setting.components)
    weights = torch.tensor([component.weight for component in setting.components])
    weights_BM = torch.stack([block.can_score for block in blocks], dim=1) * weights
    sums = weights_BM.sum(dim=1, keepdim=True)
    nobody = sums[:, 0] == 0
    weights_BM = weights_BM / sums.clamp_min(1e-12) * weights.sum()
    fused = total.mul_(weights.sum() / sums.clamp_min(1e-12))
    if fallback is not None and bool(nobody.any()):
        fused[nobody] = fallback.score(batch.rows(0, 1)).scores[:1]  # one row stands for every user without history
    return Blend(fused, blocks, weights_BM)
