"""How long single users take: a measurement of this machine, models side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from recsys_spark.config.sections import Repeats
from recsys_spark.fusion.model import FusedModel
from recsys_spark.promotion.gates import Latency
from recsys_spark.recommenders.histories import RawHistory

WARM_UP = 3
"""Users answered before the clock counts: the first calls pay for memory and for kernels that are chosen."""


def latencies(
    models: Sequence[FusedModel], histories: Sequence[RawHistory], k: int, repeats: Repeats
) -> list[Latency] | None:
    """Of each model the time of one user's list with its reasons, user by user; None without users.

    The models take turns on each user, and who goes first changes, so that what else the machine does hits them alike.
    """
    if not histories:
        return None
    taken: list[list[float]] = [[] for _ in models]
    for model in models:
        for history in histories[:WARM_UP]:
            model.recommend_histories([history], k, repeats)
    for turn, history in enumerate(histories):
        order = range(len(models)) if turn % 2 == 0 else reversed(range(len(models)))
        for which in order:
            started = time.perf_counter()
            models[which].recommend_histories([history], k, repeats)
            taken[which].append(1000 * (time.perf_counter() - started))
    return [Latency(percentile(values, 50), percentile(values, 95)) for values in taken]


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the least value that so many percent are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
