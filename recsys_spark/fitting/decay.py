"""Exponential decay in Spark, and sums of it that do not depend on the order of rows."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

SECONDS_A_DAY = 86_400
UNIT = 2.0**-32
"""Smallest part of an event that a decayed sum counts."""


def decayed_weight(weight: Column, time: Column, cut_time: int, half_life_days: float) -> Column:
    """Weight x 0.5^(age / half_life), with the age counted back from `cut_time` (epoch seconds)."""
    half_lives = (F.lit(cut_time) - time) / F.lit(SECONDS_A_DAY * half_life_days)
    return weight.cast("double") * F.pow(F.lit(0.5), half_lives)


def exact_sum(value: Column) -> Column:
    """Sum in whole units of 2^-32, so that it is the same for any partitioning; up to 2 x 10^9 in all."""
    return F.sum(F.round(value / F.lit(UNIT)).cast("bigint")) * F.lit(UNIT)
