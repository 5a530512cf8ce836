"""The registry of all kinds of measures: words and default limits, without anything that measures (no Spark).

Each group declares its kinds in a file of this package; the file of the same name above it measures them. They stand
apart because the configuration checks limits against this registry before Spark starts.
"""

from __future__ import annotations

from recsys_spark.monitoring.kinds import bias, events, features, lists, outcomes, scores
from recsys_spark.monitoring.kinds.kind import Bad, Form, Kind, Limit

KINDS: dict[str, Kind] = {
    kind.key: kind for group in (events, features, scores, lists, outcomes, bias) for kind in group.KINDS
}
"""`group.name` to the kind."""

__all__ = ["KINDS", "Bad", "Form", "Kind", "Limit"]
