"""From a block of fused scores to lists: boosts and masks, then the best items or what `filling` makes of them.

Masks come before anything is ranked. A list that only depends on the order of scores is cut right there; for caps,
diversity, shares, lots and pins see `filling`. Letters as in `rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.fusion.rules.boosts import apply_boosts
from recsys_spark.fusion.rules.compiled import ListRules, days_ago
from recsys_spark.fusion.rules.filling import Filling
from recsys_spark.fusion.rules.interval import bought_too_lately
from recsys_spark.fusion.rules.masks import Pairs, apply_hard, of_rows
from recsys_spark.fusion.rules.pins import active_pins
from recsys_spark.fusion.rules.segments import in_segment
from recsys_spark.fusion.topk import stable_topk
from recsys_spark.recommenders.batch import UserBatch

OLDEST_DAYS = 36500.0
"""Items first seen longer ago count as that old."""


@dataclass(frozen=True)
class RuledLists:
    """The lists of a block of users under rules."""

    items: Tensor
    """[B, K] int64 codes, -1 past the end of a list."""
    scores: Tensor
    """[B, K] float32: boosted scores; not ascending or descending where places are not by score."""
    origins: Tensor
    """[B, K] int8: RANKED, PINNED or DRAWN."""
    propensities: Tensor
    """[B, K] float64: the probability that this item stands in this place; see `exploration`."""
    emptied: Tensor
    """[B] bool: nothing was left of the list, and it is the fallback's."""
    boosted: Tensor
    """[B, K] bool: the score is not the sum of the components' parts: boosted, or outside what was scored."""


@dataclass(frozen=True)
class Purchases:
    """What the rules need to know of a block's purchases."""

    events_N: Tensor
    """[N] bool: the events that are purchases."""
    dropped: Pairs | None
    """What the lists may not repeat, under `drop`."""


def make_lists(
    rules: ListRules,
    scores_BI: Tensor,
    batch: UserBatch,
    k: int,
    purchases: Purchases,
    silent_score: float | None,
    fallback: Callable[[], Tensor],
    vectors_ID: Tensor | None,
) -> RuledLists:
    """Lists of up to `k` for a block. Writes into the scores.

    `silent_score` is the score of items of which a recommender that stands alone has nothing to say; `fallback` gives
    the scores [I] of what everybody may be shown; `vectors_ID` tells likeness for diversity.
    """
    k = min(k, scores_BI.shape[1])
    now = rules.as_of
    inside_BS = (
        torch.stack([in_segment(segment, batch) for segment in rules.segments], dim=1)
        if rules.segments
        else (torch.zeros((batch.size, 0), dtype=torch.bool))
    )
    if silent_score is not None:
        scores_BI.masked_fill_(scores_BI == silent_score, -torch.inf)
    touched_I = apply_boosts(scores_BI, rules.boosts, now)
    floor_B = _lift(scores_BI, rules, now, k)
    apply_hard(scores_BI, rules, inside_BS, purchases.dropped)
    if rules.interval_share > 0:
        lately = bought_too_lately(batch, purchases.events_N, rules.interval_I, rules.interval_share)
        scores_BI[lately] = -torch.inf
    emptied_B = scores_BI.amax(1) <= floor_B
    if bool(emptied_B.any()):
        rows = emptied_B.nonzero()[:, 0]
        instead = fallback().expand(rows.numel(), -1).clone()
        apply_boosts(instead, rules.boosts, now)
        dropped = None if purchases.dropped is None else of_rows(purchases.dropped, rows, batch.size)
        apply_hard(instead, rules, inside_BS[rows], dropped)
        scores_BI[rows] = instead
    if not rules.picks:
        items = stable_topk(scores_BI, k)
        lists = _in_order(items, scores_BI.gather(1, items))
    else:
        lists = Filling(rules, now, k, vectors_ID).of(scores_BI, batch, inside_BS)
    items, origins, propensities = lists
    scores = scores_BI.gather(1, items.clamp_min(0))
    boosted = touched_I[items.clamp_min(0)] | (scores <= floor_B[:, None])
    return RuledLists(items, scores, origins, propensities, emptied_B, boosted & (items >= 0))


def _in_order(items_BK: Tensor, scores_BK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    listed = torch.isfinite(scores_BK)
    return torch.where(listed, items_BK, -1), torch.zeros(items_BK.shape, dtype=torch.int8), listed.double()


def _lift(scores_BI: Tensor, rules: ListRules, now: int, k: int) -> Tensor:
    """Score new items and pinned ones that have no score: below all that have one, the newest first.

    A fusion of candidates knows only what was retrieved, and new items seldom are. Returns [B] float32: the score up to
    which a row's scores were given here; -inf where none was.
    """
    wanted_I = torch.zeros(scores_BI.shape[1], dtype=torch.bool)
    if rules.explore_share > 0 or rules.min_new_share > 0:
        wanted_I |= rules.new_items(now)
    for pin in active_pins(rules, now, k):
        wanted_I[pin.code] = True
    codes = wanted_I.nonzero()[:, 0]
    block = scores_BI[:, codes]
    missing = ~torch.isfinite(block)
    lifted_B = missing.any(1)
    if not bool(lifted_B.any()):
        return torch.full((len(scores_BI),), -torch.inf)
    least_B = torch.where(torch.isfinite(scores_BI), scores_BI, torch.inf).amin(1)
    floor_B = torch.where(torch.isfinite(least_B), least_B, 0.0) - 1
    age = days_ago(rules.first_seen_I[codes], now).clamp(0, OLDEST_DAYS)
    scores_BI[:, codes] = torch.where(missing, floor_B[:, None] - age / OLDEST_DAYS, block)
    return torch.where(lifted_B, floor_B, -torch.inf)
