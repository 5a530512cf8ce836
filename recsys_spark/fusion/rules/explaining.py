"""What rules add to explanations: their part of a score, and the reasons of items that stand where they do by rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recsys_spark.fusion.blended import Blend, Parts
from recsys_spark.fusion.explain import ExplainedRows
from recsys_spark.fusion.rules.filling import DRAWN, PINNED
from recsys_spark.fusion.rules.lists import RuledLists
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch

RULES = "rules"
"""The part of a score that is no component's: what a boost added."""
PICKED, NEW = "picked by the shop", "new in the shop"
LEFT = "since your own list was left empty by the shop's rules"


@dataclass(frozen=True)
class RuledParts:
    """Parts under rules: those of the fusion, and RULES; a row still adds up to its score."""

    source: Parts
    lists: RuledLists

    def parts(self, recommenders: Mapping[str, Recommender], batch: UserBatch, items_BK: Tensor) -> Tensor:
        """[B, K, M + 1] parts of the items of the lists, in their order; NaN for users whose list was emptied."""
        parts_BKM = self.source.parts(recommenders, batch, items_BK)
        parts_BKM = parts_BKM.masked_fill(self.lists.emptied[:, None, None], torch.nan)
        added_BK = self.lists.scores - parts_BKM.nan_to_num(0.0).sum(2)
        own_BK = self.lists.boosted & ~self.lists.emptied[:, None]
        return torch.cat([parts_BKM, torch.where(own_BK, added_BK, torch.nan)[:, :, None]], dim=2)


def ruled_blend(result: Blend, lists: RuledLists) -> Blend:
    """The blend as explanations shall see it: with the rules' part, and without the users whose list was emptied."""
    weights = torch.cat([result.weights, result.weights.new_zeros(len(result.weights), 1)], dim=1)
    weights = weights.masked_fill(lists.emptied[:, None], 0.0)
    return replace(result, names=(*result.names, RULES), weights=weights, source=RuledParts(result.source, lists))


def explained(rows: ExplainedRows, lists: RuledLists) -> ExplainedRows:
    """The rows with the reasons of pinned and drawn items, of lists that were emptied, and the propensities."""
    present = (lists.items >= 0).numpy()
    origins = lists.origins.numpy()[present]
    emptied = lists.emptied.numpy()[rows.users]
    by_rule = (origins == PINNED) | (origins == DRAWN)
    reasons = list(rows.reasons)
    for row in np.nonzero(by_rule | emptied)[0].tolist():
        if by_rule[row]:
            reasons[row] = PICKED if origins[row] == PINNED else NEW
        if emptied[row]:
            reasons[row] = f"{reasons[row]}, {LEFT}"
    return replace(
        rows,
        reasons=reasons,
        speakers=np.where(by_rule, -1, rows.speakers),
        evidence=np.where(by_rule, -1, rows.evidence),
        shares=np.where(by_rule, np.nan, rows.shares).astype(np.float32),
        propensities=lists.propensities.numpy()[present],
    )
