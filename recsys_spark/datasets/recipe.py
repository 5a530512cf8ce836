"""What the rows of the datasets depend on besides the events."""

from __future__ import annotations

from dataclasses import dataclass

from recsys_spark.datasets.sequences import MAX_TARGETS

MATRIX_NAME, SEQUENCES_NAME, VALID_NAME = "matrix", "sequences", "valid"
"""The datasets of a fit: its folders."""


@dataclass(frozen=True)
class Recipe:
    """Plain values of the configuration, which travel to the tasks."""

    seed: int
    row_groups: int
    max_length: int
    max_windows: int
    half_life_days: float | None
    session_gap: int
    """In seconds."""
    negatives: int
    negative_power: float
    target_types: tuple[int, ...]
    """Codes of evaluation.target_events."""
    valid_users: int

    @property
    def lengths(self) -> dict[str, int]:
        """The length of each list column."""
        names = ("items", "event_types", "times", "gaps", "sessions")
        return dict.fromkeys(names, self.max_length) | {"targets": MAX_TARGETS, "negatives": self.negatives}
