"""The lists of a replay, and how well they foretell what was bought. K list length, S steps, I items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.replaying.steps import Ints, Steps
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import FusionSettings, single

Repeats = Literal["allow", "drop"]
MODES: tuple[Repeats, ...] = ("allow", "drop")
FUSED = "fused"
Quality = dict[tuple[str, Repeats], NDArray[np.float64]]
"""NDCG@K [S] by list (FUSED, or a recommender alone) and mode; NaN where nothing is to be foretold."""


def qualities(
    model: FusedModel,
    alone: Sequence[str],
    steps: Steps,
    asked: Mapping[str, tuple[Ints, Ints]],
    k: int,
    block: int,
) -> dict[str, Quality]:
    """NDCG@k of lists by way of serving: of histories up to the places `ends` [S], at the moments `now` [S].

    What is relevant is the same for every list: what was bought, under `drop` what the user had never bought before.
    Equal histories at equal moments are scored once, whichever way asks for them.
    """
    keys = np.concatenate([np.stack([steps.users, ends, now], axis=1) for ends, now in asked.values()])
    distinct, back = np.unique(keys, axis=0, return_inverse=True)
    lists: dict[tuple[str, Repeats], list[Ints]] = {}
    for start in range(0, len(distinct), block):
        for name, codes in _lists(model, alone, steps, distinct[start : start + block], k).items():
            lists.setdefault(name, []).append(codes)
    relevant = {"allow": np.ones(len(steps.bought[0]), dtype=bool), "drop": steps.new()}
    whole = {name: np.concatenate(parts)[back.reshape(-1)] for name, parts in lists.items()}
    return {
        way: {
            (name, mode): ndcg(codes[place * steps.size : (place + 1) * steps.size], steps, relevant[mode])
            for (name, mode), codes in whole.items()
        }
        for place, way in enumerate(asked)
    }


def _lists(
    model: FusedModel, alone: Sequence[str], steps: Steps, some: Ints, k: int
) -> dict[tuple[str, Repeats], Ints]:
    """Codes [B, K] of the lists of some histories, -1 behind the end of a short one."""
    batch = steps.shop.histories(some[:, 0], some[:, 1], some[:, 2])
    settings: list[FusionSettings] = [model.settings[mode] for mode in MODES] + [single(name) for name in alone]
    blends = model.blends(settings, batch)
    made = {}
    for mode, blend in zip(MODES, blends[:2], strict=True):
        silent = model.silent_score(model.settings[mode])
        made[FUSED, mode] = model.top(blend.fused, batch, k, mode, silent).items.numpy()
    for name, blend in zip(alone, blends[2:], strict=True):
        silent = model.recommenders[name].silent_score
        for mode in MODES:  # `drop` writes into the scores, so it comes last
            made[name, mode] = model.top(blend.fused, batch, k, mode, silent).items.numpy()
    return made


def ndcg(lists_SK: Ints, steps: Steps, relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """NDCG@K [S] of lists, with the ideal over min(K, relevant items); NaN without any. `relevant` is of `bought`."""
    step, code = (part[relevant] for part in steps.bought)
    k = lists_SK.shape[1]
    keys = np.where(lists_SK >= 0, np.arange(len(lists_SK))[:, None] * steps.shop.num_items + lists_SK, -1)
    hits_SK = np.isin(keys, step * steps.shop.num_items + code)
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    number = np.bincount(step, minlength=steps.size)
    ideal = np.r_[0.0, np.cumsum(discounts)][np.minimum(number, k)]
    with np.errstate(invalid="ignore"):
        return np.where(number > 0, (hits_SK * discounts).sum(axis=1) / ideal, np.nan)
