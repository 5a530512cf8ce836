"""Trending: how much more than usual of an item sells lately, from two decayed counts that Spark sums in one pass."""

from __future__ import annotations

import torch
from pyspark.sql import functions as F

from recsys_spark.fitting.decay import decayed_weight, exact_sum
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.trend import Trend, rise


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
    trend = Trend(torch.from_numpy(short), torch.from_numpy(long), float(inputs.cut_time), settings.smoothing)
    recommender = Counts(inputs.name, torch.from_numpy(scores).float(), settings.half_life_days, "trending", trend)
    recommender.save(inputs.output, inputs.vocabulary)
    return {"half_life_days": settings.half_life_days, "rising_items": int((scores > 0).sum())}
