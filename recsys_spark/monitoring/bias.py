"""Measures of bias: whom and what the live lists favour, against what their users bought that day.

Of items: exposure against relevance, by age, popularity, category and brand. Of users: accuracy by activity. The
definitions are those of `monitoring.answered`, the segments those of the evaluation report.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from recsys_spark.monitoring.answered import Answered, Part, answered
from recsys_spark.monitoring.context import MonitorContext
from recsys_spark.monitoring.finding import Group, Measure
from recsys_spark.monitoring.strata import DIMENSIONS
from recsys_spark.monitoring.usual import against_usual

GROUP: Group = "bias"
RATIOS = {"exposure_gap": "exposure_gap_ratio", "segment_ndcg": "segment_ratio"}


def measure_bias(context: MonitorContext) -> list[Measure]:
    """Exposure against relevance in each dimension of items, and accuracy by activity of users."""
    found = answered(context)
    if isinstance(found, str):
        return context.without(GROUP, found)
    return against_usual(context, [*_of_items(context, found), *_of_users(context, found)], RATIOS)


def _of_items(context: MonitorContext, found: Answered) -> Iterator[Measure]:
    of = partial(context.measure, GROUP, rows=found.overall.users)
    for dimension in DIMENSIONS:
        spread = found.spreads.get(dimension)
        if spread is None:
            continue
        worst = f"{spread.worst.name}, {_shares(spread.worst)}"
        yield of("exposure_gap", spread.gap, subject=dimension, detail=worst)
        for part in spread.parts:
            yield of("over_exposure", _times(part), subject=f"{dimension}: {part.name}", detail=_shares(part))


def _times(part: Part) -> float:
    return part.exposure / part.relevance if part.relevance else math.inf


def _shares(part: Part) -> str:
    return f"{100 * part.exposure:.3g} % of places, {100 * part.relevance:.3g} % of purchases"


def _of_users(context: MonitorContext, found: Answered) -> Iterator[Measure]:
    for segment, accuracy in found.by_activity.items():
        if accuracy.users:
            told = f"at {found.k}"
            yield context.measure(GROUP, "segment_ndcg", accuracy.ndcg, accuracy.users, subject=segment, detail=told)
