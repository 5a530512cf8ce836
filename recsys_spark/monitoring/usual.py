"""Measures against what they were on earlier days."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from recsys_spark.monitoring.context import MonitorContext
from recsys_spark.monitoring.finding import Measure


def against_usual(context: MonitorContext, measures: Iterable[Measure], ratios: Mapping[str, str]) -> list[Measure]:
    """The measures, and after each whose name is in `ratios` its ratio to the median of earlier days, by that name.

    Where fewer than `context.LEAST_DAYS` earlier days were measured there is no ratio.
    """
    found: list[Measure] = []
    for measure in measures:
        usual = context.usual(measure.key, measure.subject)
        found.append(replace(measure, reference=usual))
        if measure.name in ratios and measure.value is not None and usual is not None:
            ratio = ratio_of(measure.value, usual)
            found.append(replace(measure, name=ratios[measure.name], value=ratio, reference=usual))
    return found


def ratio_of(value: float, usual: float) -> float:
    """The value by what is usual; 1 where both are 0, infinite where what is usual alone is 0."""
    if usual == 0:
        return 1.0 if value == 0 else math.inf
    return value / usual
