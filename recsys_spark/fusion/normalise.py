"""Making the scores of different recommenders comparable, row by row.

All functions take scores over the whole catalogue and are monotone in them, so that a component's own order never
changes. M components, B users, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recsys_spark.fusion.topk import stable_topk
from recsys_spark.recommenders.forms import Form, mean_and_deviation, portions

Method = Literal["none", "zscore", "softmax", "rank"]
RANK_DEPTH = 200
"""Ranks are told apart down to this place; everything below counts 0 (ranking a whole catalogue costs ten products)."""
RANK_OFFSET = 60.0
"""The constant of reciprocal rank fusion (Cormack et al. 2009): score 1 / (offset + rank)."""


@dataclass(frozen=True)
class Normaliser:
    """A method and, for softmax, a temperature."""

    method: Method
    temperature: float = 1.0
    """Softmax divides each row's z-scores by it: lower is sharper."""


@dataclass(frozen=True)
class RowStatistics:
    """What a normaliser needs to know of each row: kept, so that single scores can be normalised later. Each [B, 1]."""

    mean: Tensor
    deviation: Tensor
    log_sum_exp: Tensor
    """Of the row's z-scores divided by the temperature."""


def row_statistics(scores_BI: Tensor, normaliser: Normaliser) -> RowStatistics:
    """The statistics that `normaliser` uses; the others stay zero."""
    zero = scores_BI.new_zeros(scores_BI.shape[0], 1)
    mean = deviation = log_sum_exp = zero
    if normaliser.method in ("zscore", "softmax"):
        mean, deviation = mean_and_deviation(scores_BI)
    if normaliser.method == "softmax":
        scale = deviation * normaliser.temperature
        log_sum_exp = torch.empty_like(mean)
        for rows in portions(scores_BI):
            scaled = (scores_BI[rows] - mean[rows]).div_(scale[rows])
            log_sum_exp[rows] = torch.logsumexp(scaled, dim=1, keepdim=True)
    return RowStatistics(mean, deviation, log_sum_exp)


def form_statistics(form: Form, normaliser: Normaliser) -> RowStatistics:
    """For `none` and `zscore`, which take (score - mean) / deviation: of scores that may not be written out."""
    zero = torch.zeros(form.can_score.numel(), 1)
    if normaliser.method == "zscore":
        mean, deviation = form.mean_and_deviation()
        return RowStatistics(mean, deviation, zero)
    return RowStatistics(zero, torch.ones_like(zero), zero)


def normalise(scores_BI: Tensor, normaliser: Normaliser, statistics: RowStatistics) -> Tensor:
    """Normalised scores, same shape; `scores_BI` may hold any subset of the row's items except for `rank`."""
    if normaliser.method == "none":
        return scores_BI
    if normaliser.method == "zscore":
        return (scores_BI - statistics.mean) / statistics.deviation
    if normaliser.method == "softmax":
        scale = statistics.deviation * normaliser.temperature
        shares = torch.empty_like(scores_BI)
        for rows in portions(scores_BI):
            scaled = (scores_BI[rows] - statistics.mean[rows]).div_(scale[rows]).sub_(statistics.log_sum_exp[rows])
            torch.exp(scaled, out=shares[rows])
        return shares
    return reciprocal_ranks(stable_topk(scores_BI, RANK_DEPTH), scores_BI.shape[1])


def reciprocals(depth: int) -> Tensor:
    """[R] 1 / (offset + rank) for the ranks 1 to R."""
    return 1.0 / (RANK_OFFSET + torch.arange(1, depth + 1, dtype=torch.float32))


def reciprocal_ranks(top_BR: Tensor, num_items: int) -> Tensor:
    """[B, I] 1 / (offset + rank) for the items of the ranked lists `top_BR` (codes, best first), 0 for all others."""
    values_BR = reciprocals(top_BR.shape[1]).expand(top_BR.shape)
    return torch.zeros(top_BR.shape[0], num_items).scatter_(1, top_BR, values_BR)
