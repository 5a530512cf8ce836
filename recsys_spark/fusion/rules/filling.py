"""Filling lists that depend on more than the order of scores: pins, picks, the least share of new items, lots.

All work on OVERSAMPLE candidates for each place, and where caps leave a list short of them, on what they leave open.
Letters as in `rules`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys_spark.fusion.rules.compiled import ListRules
from recsys_spark.fusion.rules.exploration import ITEMS, PLACES, arrange, draws, explored_places, smallest, user_keys
from recsys_spark.fusion.rules.picking import OVERSAMPLE, Diversity, appended, pick, refill
from recsys_spark.fusion.rules.pins import active_pins, pinned
from recsys_spark.fusion.topk import stable_topk
from recsys_spark.recommenders.batch import UserBatch

CELLS_AT_ONCE = 1 << 24
"""Numbers that picking for a portion of users may hold at once."""
RANKED, PINNED, DRAWN = 0, 1, 2
"""Why an item stands in its place."""


class Filling:
    """What the lists of all blocks have in common."""

    def __init__(self, rules: ListRules, now: int, k: int, vectors_ID: Tensor | None) -> None:
        self._rules = rules
        self._now = now
        self._k = k
        self._pins = active_pins(rules, now, k)
        self._names = [segment.name for segment in rules.segments]
        self._new_I = rules.new_items(now)
        self._new = (self._new_I & rules.available_I).nonzero()[:, 0]
        """Codes of the new items."""
        self._diversity = None
        if rules.diversity_weight > 0:
            assert vectors_ID is not None, "whoever saved the rules has checked that there are vectors"
            self._diversity = Diversity(rules.diversity_weight, vectors_ID)
        self._drawn = explored_places(rules.explore_share, k)

    def of(self, scores_BI: Tensor, batch: UserBatch, inside_BS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Items, origins and propensities, each [B, K]; a portion of the users at a time."""
        dims = 1 if self._diversity is None else int(self._diversity.vectors_ID.shape[1])
        width = OVERSAMPLE * self._k + (self._rules.explore_candidates if self._drawn else 0)
        step = max(1, CELLS_AT_ONCE // (width * max(dims, self._k)))
        keys = user_keys(batch)
        portions = [
            self._portion(scores_BI[start : start + step], keys[start : start + step], inside_BS[start : start + step])
            for start in range(0, batch.size, step)
        ]
        items, origins, propensities = (torch.cat(column) for column in zip(*portions, strict=True))
        return items, origins, propensities

    def _portion(
        self, scores_BI: Tensor, keys: npt.NDArray[np.int64], inside_BS: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        caps, k, rows = self._rules.caps, self._k, scores_BI.shape[0]
        pins_BP, positions_BP = pinned(self._pins, scores_BI, inside_BS, self._names, caps)
        room_B = k - (pins_BP >= 0).sum(1)
        slots = torch.arange(1, k + 1)
        late_B = ((slots >= self._rules.explore_first_rank) & ~(positions_BP[:, :, None] == slots).any(1)).sum(1)
        wanted_B = late_B.clamp_max(self._drawn)
        picks_BK = self._picked(scores_BI, room_B - wanted_B, pins_BP)
        picks_BK = self._with_new(scores_BI, picks_BK, room_B - wanted_B, wanted_B, pins_BP)
        eligible_BC = self._eligible(scores_BI, torch.cat([pins_BP, picks_BK], dim=1))
        eligible_B = (eligible_BC >= 0).sum(1)
        drawn_B = torch.minimum(wanted_B, eligible_B)
        if bool((drawn_B < wanted_B).any()):  # all of E will stand in the list: the other places are ranked again
            taken = torch.cat([pins_BP, torch.where((drawn_B < wanted_B)[:, None], eligible_BC, -1)], dim=1)
            count_B = torch.where(drawn_B < wanted_B, room_B - drawn_B, room_B - wanted_B)
            picks_BK = refill(scores_BI, picks_BK, count_B, taken, caps, self._diversity, OVERSAMPLE * k)
            to_come_B = torch.where(drawn_B < wanted_B, 0, wanted_B)
            picks_BK = self._with_new(scores_BI, picks_BK, count_B, to_come_B, taken)
        lots = draws(self._rules.seed, keys, self._now, ITEMS, eligible_BC.shape[1])
        ranks_BC = smallest(lots, eligible_BC >= 0, drawn_B)
        drawn_BK = _by_rank(eligible_BC, ranks_BC, k)
        places = arrange(
            positions_BP,
            (picks_BK >= 0).sum(1),
            drawn_B,
            eligible_B,
            self._rules.explore_first_rank,
            k,
            draws(self._rules.seed, keys, self._now, PLACES, k),
        )
        items = torch.full((rows, k), -1, dtype=torch.int64)
        origins = torch.zeros((rows, k), dtype=torch.int8)
        sources = (
            (places.ranked_BK, picks_BK, RANKED),
            (places.drawn_BK, drawn_BK, DRAWN),
            (places.pin_BK, pins_BP, PINNED),
        )
        for place_BK, codes, origin in sources:
            if codes.shape[1]:
                items = torch.where(place_BK >= 0, codes.gather(1, place_BK.clamp_min(0)), items)
                origins = torch.where(place_BK >= 0, origin, origins).to(torch.int8)
        return items, origins, places.propensity_BK

    def _picked(self, scores_BI: Tensor, count_B: Tensor, pins_BP: Tensor) -> Tensor:
        """The ranked items of the lists: [B, K] codes, -1 behind the last."""
        width = min(OVERSAMPLE * self._k, scores_BI.shape[1])
        codes_BN = stable_topk(scores_BI, width)
        picks = pick(codes_BN, scores_BI.gather(1, codes_BN), count_B, pins_BP, self._rules.caps, self._diversity)
        picks = appended(torch.full((len(picks), self._k), -1), picks)
        return refill(scores_BI, picks, count_B, pins_BP, self._rules.caps, self._diversity, width)

    def _with_new(
        self, scores_BI: Tensor, picks_BK: Tensor, count_B: Tensor, drawn_B: Tensor, taken_BM: Tensor
    ) -> Tensor:
        """The picks; where they lack new items, picked again: the least share of new ones first, then the others.

        What else stands in the list (`taken_BM`) counts for the share, and the `drawn_B` places that will be drawn.
        Lists that were picked again are ordered by score. Without caps that replaces the last items that are not new.
        """
        least = math.ceil(self._rules.min_new_share * self._k - 1e-9)
        if least == 0:
            return picks_BK
        wanted_B = (least - self._count_new(taken_BM) - drawn_B).clamp_min(0)
        lacking_B = self._count_new(picks_BK) < wanted_B
        if not bool(lacking_B.any()):
            return picks_BK
        new = self._best_new(scores_BI, torch.where(lacking_B, torch.minimum(wanted_B, count_B), 0), taken_BM)
        first = torch.where(lacking_B[:, None], appended(torch.full_like(picks_BK, -1), new), picks_BK)
        again = refill(scores_BI, first, count_B, taken_BM, self._rules.caps, self._diversity, OVERSAMPLE * self._k)
        scores = scores_BI.gather(1, again.clamp_min(0)).masked_fill(again < 0, -torch.inf)
        ordered = again.gather(1, torch.argsort(scores, dim=1, descending=True, stable=True))
        return torch.where(lacking_B[:, None], ordered, picks_BK)

    def _count_new(self, codes_BM: Tensor) -> Tensor:
        """[B] new items among the codes."""
        return ((codes_BM >= 0) & self._new_I[codes_BM.clamp_min(0)]).sum(1)

    def _eligible(self, scores_BI: Tensor, taken_BM: Tensor) -> Tensor:
        """E of each user: [B, C] codes, -1 behind the last."""
        size = self._rules.explore_candidates if self._drawn else 0
        return self._best_new(scores_BI, torch.full((len(scores_BI),), size), taken_BM)

    def _best_new(self, scores_BI: Tensor, count_B: Tensor, taken_BM: Tensor) -> Tensor:
        """The best new items beside those taken that the caps allow together."""
        most = int(count_B.max()) if count_B.numel() else 0
        if most == 0 or self._new.numel() == 0:
            return torch.full((len(scores_BI), 0), -1, dtype=torch.int64)
        scores = scores_BI[:, self._new]
        places = stable_topk(scores, max(OVERSAMPLE * self._k, most) + taken_BM.shape[1])
        return pick(self._new[places], scores.gather(1, places), count_B, taken_BM, self._rules.caps)


def _by_rank(codes_BC: Tensor, ranks_BC: Tensor, k: int) -> Tensor:
    """[B, K] the codes at their ranks, -1 where there is none."""
    out = torch.full((codes_BC.shape[0], k + 1), -1, dtype=torch.int64)
    out.scatter_(1, torch.where(ranks_BC >= 0, ranks_BC, k), torch.where(ranks_BC >= 0, codes_BC, -1))
    return out[:, :k]
