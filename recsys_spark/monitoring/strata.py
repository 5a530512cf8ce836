"""How items are divided when exposure is held against relevance: by age, popularity, category and brand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.evaluation.item_facts import POPULARITY_STRATA, age_names, strata_of_counts

AGE, POPULARITY, CATEGORY, BRAND = "age", "popularity", "category", "brand"
SMALL = (AGE, POPULARITY)
"""Dimensions of few parts, which are told one by one."""
DIMENSIONS = (*SMALL, CATEGORY, BRAND)
UNKNOWN = "none"
"""The part of items without a category or brand."""


def divided_items(items: DataFrame, features: DataFrame, age_days: Sequence[int], shares: Sequence[float]) -> DataFrame:
    """One row an item: item_id, known (had it an event), and its part of each of DIMENSIONS, by name.

    `items(item_id, category, brand)`; `features(item_id, events, age_days)` of one fit. Ages and strata are those of
    `evaluation.item_facts`, except that popularity counts events of every type.
    """
    head, mid = least_events(_counts(features), shares)
    ages = age_names(age_days)
    age = F.when(F.col("age_days") >= age_days[1], ages[2]).when(F.col("age_days") >= age_days[0], ages[1])
    stratum = F.when(F.col("events") >= head, POPULARITY_STRATA[0]).when(F.col("events") >= mid, POPULARITY_STRATA[1])
    return items.join(features, on="item_id", how="left").select(
        "item_id",
        F.coalesce(F.col("events") > 0, F.lit(False)).alias("known"),
        age.otherwise(ages[0]).alias(AGE),
        stratum.otherwise(POPULARITY_STRATA[2]).alias(POPULARITY),
        *[F.coalesce(name, F.lit(UNKNOWN)).alias(name) for name in (CATEGORY, BRAND)],
    )


def newcomers(age_days: Sequence[int]) -> Mapping[str, Column]:
    """The parts of an item that nothing is known of."""
    names = {AGE: age_names(age_days)[0], POPULARITY: POPULARITY_STRATA[2], CATEGORY: UNKNOWN, BRAND: UNKNOWN}
    return {name: F.lit(value) for name, value in names.items()}


def least_events(counts: Mapping[int, int], shares: Sequence[float]) -> tuple[int, int]:
    """The events from which an item is head, and mid; `counts` maps a number of events to how many items have it.

    The strata are those of `evaluation.item_facts.strata_of_counts`. Without an event both are 1.
    """
    values, items = (np.array(list(column), dtype=np.int64) for column in (counts.keys(), counts.values()))
    strata = strata_of_counts(values, items, shares)
    head, mid = (int(min(values[strata <= place], default=1)) for place in (0, 1))
    return head, mid


def _counts(features: DataFrame) -> dict[int, int]:
    """Different numbers of events, at most sqrt(2 x all events) of them, to how many items have so many."""
    rows = features.groupBy("events").agg(F.count(F.lit(1)).alias("items")).collect()
    return {row["events"]: row["items"] for row in rows}
