"""Trending: how much more than usual of an item sells lately, from two decayed counts that Spark sums in one pass."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pyspark.sql import functions as F

from recsys_spark.fitting.decay import decayed_weight, exact_sum
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.recommenders.counts import Counts


def fit(inputs: FitInputs) -> Facts:
    """Score every item by its rise and write the bundle. The driver holds some numbers an item."""
    settings = inputs.config.recommenders.trending
    weight, time = F.col("weight"), F.col("time")
    counts = (
        inputs.events()
        .groupBy("item")
        .agg(
            exact_sum(decayed_weight(weight, time, inputs.cut_time, settings.half_life_days)).alias("short"),
            exact_sum(decayed_weight(weight, time, inputs.cut_time, settings.long_half_life_days)).alias("long"),
        )
    )
    short, long = inputs.item_values(counts, "short", "long")
    scores = rise(short, long, settings.smoothing)
    Counts(inputs.name, torch.from_numpy(scores).float(), settings.half_life_days, "trending").save(
        inputs.output, inputs.vocabulary
    )
    return {"half_life_days": settings.half_life_days, "rising_items": int((scores > 0).sum())}


def rise(short: NDArray[np.float64], long: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    """log((s_i + c) / (e_i + c)), e_i = l_i x sum s / sum l: the recent count against the one that is expected of it.

    e_i lets the shop as a whole neither rise nor fall. The quotient is the mean of a Gamma(c, c) prior after s_i events
    where e_i were expected (DuMouchel 1999), so that few events prove little.
    """
    expected = long * (short.sum() / long.sum()) if long.sum() > 0 else long
    return np.asarray(np.log((short + smoothing) / (expected + smoothing)))
