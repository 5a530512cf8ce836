"""Fusing a block of users: every recommender scores it once, and each fusion takes what it needs as it passes by.

At no time are the scores of all components held over the whole catalogue. Legend: B users, I items, K list length, M
components.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.fusion.blended import Blend, Fusing
from recsys_spark.fusion.cascade import CascadeSum
from recsys_spark.fusion.features import feature_names
from recsys_spark.fusion.item_columns import ItemColumns
from recsys_spark.fusion.retrieval import Proposals
from recsys_spark.fusion.settings import SEGMENTS, FusionSettings, segments_of
from recsys_spark.fusion.stacked import FeatureMaker, StackedSum
from recsys_spark.fusion.weighted import Group, WeightedSum
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.forms import Matrix

Observer = Callable[[str, Tensor, Tensor], None]
"""Called with a component's name, its raw scores [B, I] and can_score [B] while they exist."""


@dataclass(frozen=True)
class Resources:
    """What fusions over candidates need besides the scores."""

    target_types: Tensor
    """[event types] bool: which count as purchases, that is, as seen."""
    columns: ItemColumns | None = None
    """What stacked fusions know of the items."""

    def target(self, batch: UserBatch) -> Tensor:
        """[events] bool: which of the batch's events count as purchases."""
        return self.target_types[batch.event_types]


def blend(
    recommenders: Mapping[str, Recommender],
    settings: Sequence[FusionSettings],
    batch: UserBatch,
    fallback: Recommender | None,
    observe: Observer | None = None,
    resources: Resources | None = None,
) -> list[Blend]:
    """Fuse a block under each of the settings; every recommender scores once, whatever the number of settings.

    Users whom no component of a setting can score take the scores of `fallback`, which needs no history, as they are.
    """
    at_work = [begun(setting, recommenders, batch, resources) for setting in settings]
    for name, recommender in recommenders.items():
        if observe is None and not any(fusing.wants(name) for fusing in at_work):
            continue
        if observe is None:
            form = recommender.form(batch)
        else:
            result = recommender.score(batch)
            form = Matrix(result.scores, result.can_score)
            observe(name, result.scores, result.can_score)
        for fusing in at_work:
            if fusing.wants(name):
                fusing.take(name, form)
        del form
    return [_with_fallback(fusing.finish(recommenders, batch), batch, fallback) for fusing in at_work]


def begun(
    setting: FusionSettings, recommenders: Mapping[str, Recommender], batch: UserBatch, resources: Resources | None
) -> Fusing:
    """The fusion that a setting describes, at the start of a block."""
    names = [component.name for component in setting.components]
    if setting.stack is None and setting.cascade is None:
        return WeightedSum(_groups(setting, batch), batch.size)
    assert resources is not None, "fusions over candidates need resources"
    silent = {name: recommender.silent_score for name, recommender in recommenders.items()}
    num_items = next(iter(recommenders.values())).num_items
    target = resources.target(batch)
    if setting.cascade is not None:
        seen = (batch.users[target], batch.items[target])
        proposals = Proposals(setting.cascade.candidates, seen, num_items)
        return CascadeSum(setting.components, setting.cascade.retrieve, proposals, silent, num_items)
    assert setting.stack is not None
    assert resources.columns is not None, "a stacked fusion comes with its item columns"
    maker = FeatureMaker(names, setting.stack.candidates, resources.columns, target, batch, silent)
    return StackedSum(names, setting.stack.trees, maker, num_items)


def candidate_numbers(setting: FusionSettings, num_items: int) -> int:
    """Numbers of 4 bytes that a fusion over candidates keeps for each user of a block, at most; 0 for the others."""
    if setting.stack is not None:
        names = [component.name for component in setting.components]
        candidates = min(2 * setting.stack.candidates * len(names), num_items)
        # The features are made as columns, laid side by side, and cleared of what is not finite.
        return 2 * num_items + candidates * (3 * len(feature_names(names)) + 8)
    if setting.cascade is not None:
        candidates = min(2 * setting.cascade.candidates * len(setting.cascade.retrieve), num_items)
        return 2 * num_items + candidates * (len(setting.components) + 8)
    return 0


def _groups(setting: FusionSettings, batch: UserBatch) -> list[Group]:
    """The users by segment, where segments have components of their own."""
    if setting.segments is None or not batch.size:
        return [Group(None, setting.components)]
    segment_B = segments_of(batch.lengths, setting.segments.light, setting.segments.heavy)
    own = setting.segments.components
    found = []
    for place, name in enumerate(SEGMENTS):
        rows = torch.nonzero(segment_B == place).flatten()
        if rows.numel():
            found.append(Group(rows, own.get(name, setting.components)))
    return found


def _with_fallback(made: Blend, batch: UserBatch, fallback: Recommender | None) -> Blend:
    nobody = made.weights.sum(dim=1) == 0
    if fallback is not None and bool(nobody.any()):
        made.fused[nobody] = fallback.score(batch.rows(0, 1)).scores[:1]  # one row stands for every such user
    return made
