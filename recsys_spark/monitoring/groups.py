"""Every group of measures and the function that measures it, in the order of the flow."""

from __future__ import annotations

from collections.abc import Callable

from recsys_spark.monitoring.bias import measure_bias
from recsys_spark.monitoring.context import MonitorContext
from recsys_spark.monitoring.events import measure_events
from recsys_spark.monitoring.features import measure_features
from recsys_spark.monitoring.finding import Group, Measure
from recsys_spark.monitoring.lists import measure_lists
from recsys_spark.monitoring.outcomes import measure_outcomes
from recsys_spark.monitoring.scores import measure_scores

MEASURED: dict[Group, Callable[[MonitorContext], list[Measure]]] = {
    "events": measure_events,
    "features": measure_features,
    "scores": measure_scores,
    "lists": measure_lists,
    "outcomes": measure_outcomes,
    "bias": measure_bias,
}
"""A group that lacks its inputs gives no measures."""
