"""The configuration of what a run must meet before it is published."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from recsys_spark.config.section import Positive, PositiveFloat, Section, Share

NULLABLE = ("quantity", "price", "order_id")
"""Columns of clean events that may be null."""


class Quality(Section):
    """Expectations of a run's events: where one is not met, nothing is published and the job ends with exit code 2.

    Shares and daily minima hold for the whole run and, where days arrive one by one, for each day that a run computes.
    """

    max_reject_share: Share | None = None
    """Quarantined rows among all rows, at most."""
    max_reject_share_by_reason: dict[str, Share] = {}
    """Reason to the rows quarantined for it among all rows, at most, such as `{bad_price: 0.01}`."""
    max_duplicate_share: Share | None = None
    """Exact and near duplicates among all rows, at most."""
    max_null_share: dict[str, Share] = {}
    """Column (`quantity`, `price` or `order_id`) to the clean events without it, at most, such as `{price: 0.1}`."""
    max_late_share: Share | None = None
    """Clean events that arrived after their own day, at most, among those whose arrival is known."""
    min_events: Positive | None = None
    """Clean events of the whole run, at least."""
    min_users: Positive | None = None
    """Distinct users of the whole run, at least."""
    min_items: Positive | None = None
    """Distinct items of the whole run, at least."""
    min_events_per_day: Positive | None = None
    """Clean events of each day that a run computes, at least."""
    judge_days_from: Positive = 1
    """Rows from which a day's own shares and event types are judged; fewer rows count in the whole run alone."""
    max_broken_files: int | None = None
    """Files that could not be read, at most; 0 lets none pass."""
    schema_drift: Literal["allow", "warn", "stop"] = "warn"
    """What a source column that was added, removed or retyped since the last published run does."""
    min_share_of_previous: PositiveFloat | None = None
    """Clean events of a day against the mean day of the last published run, at least: 0.5 is half of it."""
    max_share_of_previous: PositiveFloat | None = None
    """Clean events of a day against the mean day of the last published run, at most: 2 is twice as many."""
    max_type_mix_change: Share | None = None
    """Total variation distance between the event types' shares now and in the last published run, at most."""
    max_null_share_change: Share | None = None
    """Difference between a column's share of nulls now and in the last published run, at most."""

    @field_validator("max_null_share")
    @classmethod
    def _of_nullable_columns(cls, limits: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(limits) - set(NULLABLE))
        if unknown:
            raise ValueError(f"names {unknown}, which cannot be null in clean events; it takes {list(NULLABLE)}")
        return limits

    @field_validator("max_broken_files")
    @classmethod
    def _not_negative(cls, most: int | None) -> int | None:
        if most is not None and most < 0:
            raise ValueError("must be 0 or more")
        return most
