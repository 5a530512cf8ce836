"""What the page shows, as plain values: rows of the written tables, and what was gathered beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FUSED, WITH_RULES, POPULARITY = "fused", "fused_with_rules", "popularity"
"""The challenger, the same after business rules, and what both must beat."""
MODES = {"allow": "repeats allowed", "drop": "repeats dropped"}
MAIN_METRIC = "ndcg"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A row of evaluation_metrics: the mean of a metric over users, with its bootstrap interval where it has one."""

    model: str
    repeats: str
    metric: str
    k: int
    value: float
    low: float | None
    high: float | None
    users: int


@dataclass(frozen=True, kw_only=True)
class Segment(Measured):
    """A row of evaluation_segments."""

    dimension: str
    segment: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row of evaluation_comparisons: the mean over users of a model's metric minus another's, paired by user."""

    model: str
    against: str
    repeats: str
    metric: str
    k: int
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    users: int

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `not told apart` where the interval holds zero; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not told apart"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How the `select` fit of a neural recommender learned."""

    model: str
    loss: Sequence[tuple[int, float]]
    """(steps so far, training loss)."""
    ndcg: Sequence[tuple[int, float]]
    """(steps so far, valid NDCG@10), a point an epoch."""
    best_epoch: int | None


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """The scores of one model's lists in one mode."""

    model: str
    repeats: str
    edges: npt.NDArray[np.float64]
    """[N+1], from the 0.5th to the 99.5th percentile."""
    counts: npt.NDArray[np.int64]
    """[N] of all ranks."""
    firsts: npt.NDArray[np.int64]
    """[N] of rank 1."""
    beyond: int
    """Scores below the first edge or above the last."""
    rows: int
    """All scores."""
    lists: int
    """Lists: rows of rank 1."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A place of a list."""

    rank: int
    item_id: str
    title: str
    score: float
    bought: bool
    """Was it bought in the test window."""
    repeat: bool
    """Had the user bought it before the window."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Past:
    """An item of a history."""

    day: str
    title: str
    event_type: str
    times: int
    """Events with it before the test window."""


@dataclass(frozen=True, kw_only=True)
class Bought:
    """An item that was bought in the test window."""

    title: str
    repeat: bool
    rank: int | None
    """Its rank in the fused list, where it is shown there."""


@dataclass(frozen=True, kw_only=True)
class SampledUser:
    """One user whom the page shows."""

    user_id: str
    events: int
    """Before the test window."""
    history: Sequence[Past]
    """The last distinct items, newest first."""
    bought: Sequence[Bought]
    lists: Mapping[str, Sequence[Listed]]
    """The fused list first, then each recommender's; empty where there is none."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that the page is made from."""

    about: Mapping[str, str]
    """Run, date, code and the like, as they are shown."""
    versions: Mapping[str, str]
    """What was read: stages and models with their committed versions."""
    fusions: Mapping[str, Mapping[str, Any]]
    """The settings of the fusion for each mode, as JSON."""
    models: Sequence[str]
    """The single recommenders, in the configured order."""
    targets: Sequence[str]
    """Names of the target events."""
    confidence: float
    """Share of bootstrap replicates that an interval covers."""
    k: int
    """The K of what is drawn: the smallest that was measured."""
    list_mode: str
    """The mode of the sampled users' lists."""
    metrics: Sequence[Measured]
    segments: Sequence[Segment]
    divided: Mapping[str, Sequence[str]]
    """Each dimension of the segments with their names in order."""
    comparisons: Sequence[Comparison]
    curves: Sequence[Curve]
    scores: Sequence[Histogram]
    users: Sequence[SampledUser]
    counts: Mapping[str, int]
    """`target_users` of the test window, and `no_history`: those of them without an event before it."""

    @property
    def modes(self) -> list[str]:
        """The modes that were measured."""
        return [mode for mode in MODES if any(row.repeats == mode for row in self.metrics)]

    def ordered(self, mode: str) -> list[str]:
        """All models with metrics in a mode: the best first by the main metric."""
        values = {row.model: row.value for row in self.main(mode)}
        return sorted(values, key=lambda name: (-values[name], name))

    def rows(self, mode: str, metric: str, k: int | None = None) -> list[Measured]:
        """A metric of every model, by default at `self.k`."""
        wanted = (mode, metric, k or self.k)
        return [row for row in self.metrics if (row.repeats, row.metric, row.k) == wanted]

    def main(self, mode: str) -> list[Measured]:
        """The main metric of every model."""
        return self.rows(mode, MAIN_METRIC)

    def segment_rows(self, dimension: str, mode: str, metric: str) -> list[Segment]:
        """A metric of every model and segment of a dimension."""
        wanted = (dimension, mode, metric, self.k)
        return [row for row in self.segments if (row.dimension, row.repeats, row.metric, row.k) == wanted]

    def against(self, mode: str) -> list[Comparison]:
        """The fusion against each single recommender by the main metric."""
        rows = (row for row in self.comparisons if row.model == FUSED and row.against in self.models)
        return [row for row in rows if (row.repeats, row.metric, row.k) == (mode, MAIN_METRIC, self.k)]
