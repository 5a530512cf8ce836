"""Popularity: time-decayed event counts, summed by Spark."""

from __future__ import annotations

import torch
from pyspark.sql import functions as F

from recsys_spark.fitting.decay import decayed_weight, exact_sum
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.recommenders.counts import Counts


def fit(inputs: FitInputs) -> Facts:
    """Count every item's events, weight x 0.5^(age / half_life), and write the bundle.

    The driver holds one number an item. Events older than some thirty half-lives count nothing.
    """
    settings = inputs.config.recommenders.popularity
    decayed = decayed_weight(F.col("weight"), F.col("time"), inputs.cut_time, settings.half_life_days)
    counts = inputs.events().groupBy("item").agg(exact_sum(decayed).alias("score"))
    (scores,) = inputs.item_values(counts, "score")
    recommender = Counts(inputs.name, torch.from_numpy(scores).float(), settings.half_life_days)
    recommender.save(inputs.output, inputs.vocabulary)
    return {"half_life_days": settings.half_life_days, "counted_items": int((scores > 0).sum())}
