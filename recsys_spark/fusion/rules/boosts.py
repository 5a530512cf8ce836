"""Boosts: scores of some items raised or lowered while a campaign lasts."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_spark.fusion.rules.compiled import Boost


def boosted(scores: Tensor, factor: float, addend: float) -> Tensor:
    """Scores times `factor` above 0 and divided by it below, so that more than 1 always raises; then plus `addend`."""
    return torch.where(scores > 0, scores * factor, scores / factor) + addend


def apply_boosts(scores_BI: Tensor, boosts: tuple[Boost, ...], now: int) -> Tensor:
    """Boost a block of scores in place by the boosts that hold at `now`; -inf stays.

    Returns [I] bool: the items that were boosted.
    """
    touched_I = torch.zeros(scores_BI.shape[1], dtype=torch.bool)
    for boost in boosts:
        if boost.window.holds(now):
            scores_BI[:, boost.items] = boosted(scores_BI[:, boost.items], boost.factor, boost.addend)
            touched_I[boost.items] = True
    return touched_I
