"""From sums over users to what is reported: values with intervals, by segment, and paired comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_spark.evaluation.bootstrap import Quotients, quotients
from recsys_spark.evaluation.item_facts import POPULARITY_STRATA, age_names
from recsys_spark.evaluation.measures import (
    ACTIVITIES,
    ACTIVITY,
    BY_ACTIVITY,
    BY_STRATUM,
    ITEM_AGE,
    ITEM_POPULARITY,
    OFF_POLICY,
    Measuring,
    Term,
)
from recsys_spark.evaluation.ranking import METRICS

BEYOND = ("novelty", "popularity", "popularity_lift", "diversity", "calibration")
POPULARITY = "popularity"
"""The recommender that every model is compared with."""
Floats = npt.NDArray[np.float64]
Sums = Mapping[str, Floats]
MetricRow = tuple[str, str, str, int, float, float | None, float | None, int]
SegmentRow = tuple[str, str, str, str, str, int, float, float | None, float | None, int]
ComparisonRow = tuple[str, str, str, str, int, float, float | None, float | None, float | None, int]
METRIC_COLUMNS = (
    "model string, repeats string, metric string, k int, value double, low double, high double, users bigint"
)
SEGMENT_COLUMNS = (
    "model string, repeats string, dimension string, segment string, metric string, k int, value double, low double, "
    "high double, users bigint"
)
COMPARISON_COLUMNS = (
    "model string, against string, repeats string, metric string, k int, difference double, low double, high double, "
    "p_value double, users bigint"
)


@dataclass(frozen=True)
class Results:
    """The sums of `passes.summed`, read as metrics."""

    sums: Sums
    measuring: Measuring
    confidence: float

    def metrics(self) -> Iterator[MetricRow]:
        """Rows of METRIC_COLUMNS. Accuracy is 0 where nobody has relevant items; what else nobody has, has no row."""
        names = (*METRICS, *BEYOND, *OFF_POLICY)
        for mode in self.measuring.modes:
            if not self.users(mode):
                zeros = (
                    (model, metric, k)
                    for model in self.measuring.models
                    for metric in METRICS
                    for k in self.measuring.ks
                )
                yield from ((model, mode, metric, k, 0.0, None, None, 0) for model, metric, k in zeros)
        for model, mode, term, value in self._values(Term(metric, k) for metric in names for k in self.measuring.ks):
            yield (
                model,
                mode,
                term.metric,
                term.k,
                value.observed,
                *self._interval(value),
                self._users(term, model, mode),
            )
        if "exposed|0||" in self.sums:
            yield from self._effective_samples()

    def segments(self) -> Iterator[SegmentRow]:
        """Rows of SEGMENT_COLUMNS."""
        divided = {
            ACTIVITY: (ACTIVITIES, BY_ACTIVITY),
            ITEM_AGE: (age_names(self.measuring.age_days), BY_STRATUM),
            ITEM_POPULARITY: (POPULARITY_STRATA, BY_STRATUM),
        }
        terms = (
            Term(metric, k, dimension, segment)
            for dimension, (segments, metrics) in divided.items()
            for segment in segments
            for metric in metrics
            for k in self.measuring.ks
        )
        for model, mode, term, value in self._values(terms):
            shown = (value.observed, *self._interval(value), self._users(term, model, mode))
            yield (model, mode, term.dimension, term.segment, term.metric, term.k, *shown)

    def comparisons(self, challenger: str) -> Iterator[ComparisonRow]:
        """Rows of COMPARISON_COLUMNS: `challenger` against every other model, and each one against popularity."""
        models = self.measuring.models
        pairs = [(challenger, model) for model in models if model != challenger and challenger in models]
        if POPULARITY in models:
            pairs += [(model, POPULARITY) for model in models if model not in (challenger, POPULARITY)]
        for model, against in pairs:
            for mode in self.measuring.modes:
                for term in (Term(metric, k) for metric in METRICS for k in self.measuring.ks):
                    one, other = self._value(term, model, mode), self._value(term, against, mode)
                    if one is None or other is None or np.isnan(one.observed):
                        continue
                    difference = one - other
                    shown = (*self._interval(difference), difference.p_value(), self._users(term, model, mode))
                    yield (model, against, mode, term.metric, term.k, difference.observed, *shown)

    def users(self, mode: str) -> int:
        """Users with relevant items under a mode."""
        return self._users(Term("ndcg", self.measuring.ks[0]), self.measuring.models[0], mode)

    def _values(self, terms: Iterator[Term]) -> Iterator[tuple[str, str, Term, Quotients]]:
        for term in terms:
            for model in self.measuring.models:
                for mode in self.measuring.modes:
                    value = self._value(term, model, mode)
                    if value is not None and not np.isnan(value.observed):
                        yield model, mode, term, value

    def _value(self, term: Term, model: str, mode: str) -> Quotients | None:
        if term.name not in self.sums:
            return None
        minus = 1.0 if term.metric == "popularity_lift" else 0.0
        return quotients(self._column(term.name, model, mode), self._column(term.divisor, model, mode), minus)

    def _column(self, name: str, model: str, mode: str) -> Floats:
        """[B + 1] of a model and mode; columns that do not depend on the model are one a mode, or one for all."""
        columns, modes = self.sums[name], self.measuring.modes
        place = modes.index(mode)
        if columns.shape[1] == self.measuring.lists:
            place += self.measuring.models.index(model) * len(modes)
        return columns[:, place if columns.shape[1] > 1 else 0]

    def _interval(self, value: Quotients) -> tuple[float | None, float | None]:
        return value.interval(self.confidence) or (None, None)

    def _users(self, term: Term, model: str, mode: str) -> int:
        return round(float(self._column(term.counted, model, mode)[0]))

    def _effective_samples(self) -> Iterator[MetricRow]:
        for k in self.measuring.ks:
            for model in self.measuring.models:
                for mode in self.measuring.modes:
                    weights = self._column(f"ips_weight|{k}||", model, mode)[0]
                    squares = self._column(f"ips_squares|{k}||", model, mode)[0]
                    value = float(weights**2 / squares) if squares > 0 else 0.0
                    users = self._users(Term("ips", k), model, mode)
                    yield (model, mode, "ips_sample", k, value, None, None, users)
