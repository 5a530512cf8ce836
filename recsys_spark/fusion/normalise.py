"""Making the scores of different recommenders comparable, row by row.

All functions take scores over the whole catalogue and are monotone in them, so that a component's own order never
changes. M components, B users, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

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
        scaled = (scores_BI - mean) / (deviation * normaliser.temperature)
        log_sum_exp = torch.logsumexp(scaled, dim=1, keepdim=True)
    return RowStatistics(mean, deviation, log_sum_exp)


def mean_and_deviation(scores_BI: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of each row, each [B, 1]; faster than torch.std_mean on wide rows."""
    mean = scores_BI.mean(dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(scores_BI - mean, dim=1, keepdim=True)
    return mean, (norm / scores_BI.shape[1] ** 0.5).clamp_min(1e-12)


def normalise(scores_BI: Tensor, normaliser: Normaliser, statistics: RowStatistics) -> Tensor:
    """Normalised scores, same shape; `scores_BI` may hold any subset of the row's items except for `rank`."""
    if normaliser.method == "none":
        return scores_BI
    if normaliser.method == "zscore":
        return (scores_BI - statistics.mean) / statistics.deviation
    if normaliser.method == "softmax":
        scaled = (scores_BI - statistics.mean) / (statistics.deviation * normaliser.temperature)
        return torch.exp(scaled - statistics.log_sum_exp)
    return reciprocal_ranks(stable_topk(scores_BI, RANK_DEPTH), scores_BI.shape[1])


def reciprocal_ranks(top_BR: Tensor, num_items: int) -> Tensor:
    """[B, I] 1 / (offset + rank) for the items of the ranked lists `top_BR` (codes, best first), 0 for all others."""
    values_R = 1.0 / (RANK_OFFSET + torch.arange(1, top_BR.shape[1] + 1, dtype=torch.float32))
    return torch.zeros(top_BR.shape[0], num_items).scatter_(1, top_BR, values_R.expand_as(top_BR))


def stable_topk(scores_BI: Tensor, k: int) -> Tensor:
    """Codes [B, K] of the K best scores, best first; ties go to the lower code, every time and on every machine.

    torch.topk alone breaks ties as it likes. Rows where the K-th score also stands below the cut are settled exactly:
    one more item than asked for tells which rows these are.
    """
    k = min(k, scores_BI.shape[1])
    values, codes = torch.topk(scores_BI, min(k + 1, scores_BI.shape[1]), dim=1)
    tied = values[:, k] == values[:, k - 1] if values.shape[1] > k else torch.zeros(len(values), dtype=torch.bool)
    values, codes = values[:, :k], codes[:, :k]
    # Inside the list: sort by code, then stably by score.
    order = torch.argsort(codes, dim=1)
    values, codes = values.gather(1, order), codes.gather(1, order)
    order = torch.argsort(values, dim=1, descending=True, stable=True)
    values, codes = values.gather(1, order), codes.gather(1, order)
    edge = values[:, -1:]
    for row in torch.nonzero(tied).flatten().tolist():
        above = codes[row][values[row] > edge[row]]
        level = torch.nonzero(scores_BI[row] == edge[row]).flatten()[: k - above.numel()]
        codes[row] = torch.cat([above, level])
    return codes
