"""The registry of all kinds of measures: words and default limits, without anything that measures (no Spark).

Each group declares its kinds in a file of this package; the file of the same name above it measures them. They stand
apart because the configuration checks limits against this registry before Spark starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from recsys_spark.monitoring.kinds import bias, events, features, lists, outcomes, scores
from recsys_spark.monitoring.kinds.kind import Form, Kind, Limit

KINDS: dict[str, Kind] = {
    kind.key: kind for group in (events, features, scores, lists, outcomes, bias) for kind in group.KINDS
}
"""`group.name` to the kind."""

EVERY = "*"
"""Stands for all kinds where a list of kinds may hold it."""


def check_kinds(names: Iterable[str], every: bool = False) -> None:
    """Raise ValueError for the first name that is no kind's, with those that are near: its group's, or alike.

    `every`: EVERY is a name too.
    """
    for name in names:
        if name in KINDS or (every and name == EVERY):
            continue
        group = name.partition(".")[0]
        near = sorted(key for key in KINDS if key.partition(".")[0] == group)
        near = near or get_close_matches(name, KINDS) or sorted(KINDS)
        known = [f"{EVERY} (all of them)", *near] if every else near
        raise ValueError(f"{name}: no such kind of measure; known are {', '.join(known)}")


__all__ = ["EVERY", "KINDS", "Form", "Kind", "Limit", "check_kinds"]
