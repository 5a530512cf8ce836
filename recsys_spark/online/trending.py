"""Live trending counts: decayed sums of the target events since the publication, and the scores that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.trend import SECONDS_A_DAY
from recsys_spark.recommenders.vocabulary import Vocabulary

LiveCounts = Mapping[str, tuple[float, float]]
"""(decayed count, epoch seconds at which it holds) by item, as the online store keeps them."""


def counted(
    counts: LiveCounts, events: Iterable[tuple[str, float, float]], half_life_days: float
) -> dict[str, tuple[float, float]]:
    """The counts of the items of `events` (item, weight, epoch seconds), with these added; other items are left out.

    A count holds at its newest event; an older one is added as what is left of it then, so up to rounding the order of
    events does not matter.
    """
    changed: dict[str, tuple[float, float]] = {}
    for item, weight, time in events:
        value, at = changed.get(item) or counts.get(item) or (0.0, time)
        newest = max(at, time)
        total = _faded(value, at, newest, half_life_days) + _faded(weight, time, newest, half_life_days)
        changed[item] = (total, newest)
    return changed


def live_counts(recommender: Counts, counts: LiveCounts, vocabulary: Vocabulary) -> Counts:
    """The trending recommender with live counts added, at the moment of the newest one.

    It stays as it is without live counts, and where its bundle does not say what its scores were made of.
    """
    items = [item for item, (value, _) in counts.items() if value > 0]
    codes = vocabulary.codes(items)
    known = [(code, *counts[item]) for item, code in zip(items, codes.tolist(), strict=True) if code >= 0]
    if recommender.trend is None or not known:
        return recommender
    now = max(at for _, _, at in known)
    live_I = np.zeros(recommender.num_items)
    for code, value, at in known:
        live_I[code] = _faded(value, at, now, recommender.half_life_days)
    scores_I = recommender.trend.scores(live_I, now, recommender.half_life_days)
    live = Counts(recommender.name, torch.from_numpy(scores_I).float(), recommender.half_life_days, "trending")
    live.trend = recommender.trend
    live.left_out = recommender.left_out
    return live


def _faded(value: float, at: float, now: float, half_life_days: float) -> float:
    return float(value * 0.5 ** ((now - at) / (half_life_days * SECONDS_A_DAY)))
