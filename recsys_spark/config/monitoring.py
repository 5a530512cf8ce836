"""The configuration of what is watched every day (jobs/monitor.py)."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field, field_validator

from recsys_spark.config.alerting import Notify, OnAlert
from recsys_spark.config.section import Section
from recsys_spark.monitoring.kinds import KINDS, Limit, check_kinds

Bound = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Limits(Section):
    """Limits of one kind of measure: a key that is left out keeps the kind's default, and null switches it off."""

    warn: Bound | None = None
    """Values beyond it are a warning."""
    alert: Bound | None = None
    """Values beyond it are an alert."""

    def over(self, default: Limit) -> Limit:
        """What is given here, and the default where nothing is."""
        given = self.model_fields_set
        return Limit(
            self.warn if "warn" in given else default.warn,
            self.alert if "alert" in given else default.alert,
        )


class Monitoring(Section):
    """What a day is compared with, and from when on it is bad."""

    reference_days: Annotated[int, Field(ge=7, le=366)] = 28
    """Days before the monitored one that say what is usual; whole weeks compare like with like."""
    training_days: Annotated[int, Field(ge=7, le=3660)] = 84
    """Days at the end of the models' training window whose features a day's are compared with."""
    days_kept_on_page: Annotated[int, Field(ge=2, le=366)] = 30
    """Days that the page shows."""
    closed_days: tuple[str, ...] = ()
    """Days on which nothing is to be expected, such as `12-25` (every year) or `2017-11-23`: their volume is neither
    judged nor what other days' volumes are compared with."""
    top_items: Annotated[int, Field(gt=0, le=100)] = 20
    """Categories that `events.category_left` measures at most: those that lost most."""
    top_values: Annotated[int, Field(ge=10, le=10_000)] = 200
    """Categories and brands whose shares are compared, the most frequent; the rest count as one."""
    limits: dict[str, Limits] = {}
    """Limits by kind of measure (docs/monitoring.md lists the kinds and their defaults), such as
    `{events.volume_ratio: {warn: 1.5, alert: 3}}`."""
    notify: Notify = Notify()
    """Who is told of alerts."""
    on_alert: OnAlert = OnAlert()
    """What an alert stops."""

    @field_validator("closed_days")
    @classmethod
    def _are_days(cls, days: tuple[str, ...]) -> tuple[str, ...]:
        for day in days:
            try:
                date.fromisoformat(day if len(day) > 5 else f"2000-{day}")  # a leap year
            except ValueError:
                raise ValueError(f"{day!r} is no day like 12-25 or 2017-11-23") from None
        return days

    def closed(self, day: date) -> bool:
        """Is nothing to be expected on this day."""
        return bool({day.isoformat(), day.isoformat()[5:]} & set(self.closed_days))

    @field_validator("limits")
    @classmethod
    def _of_known_kinds(cls, limits: dict[str, Limits]) -> dict[str, Limits]:
        check_kinds(limits)
        for key, given in limits.items():
            _check(key, given)
        return limits

    def judged_by(self) -> dict[str, Limit]:
        """The limits that are not the kinds' defaults, by kind."""
        return {key: given.over(KINDS[key].limit) for key, given in self.limits.items()}


def _check(key: str, given: Limits) -> None:
    """Raise ValueError where limits mean nothing for a kind, or an alert would come before its warning."""
    kind, limit = KINDS[key], given.over(KINDS[key].limit)
    bounds = [bound for bound in (limit.warn, limit.alert) if bound is not None]
    if kind.bad == "both" and any(bound <= 1 for bound in bounds):
        raise ValueError(f"{key}: limits are factors and must be above 1: 2 is twice as much, or half")
    ordered = sorted(bounds, reverse=kind.bad == "low")
    if bounds != ordered:
        raise ValueError(f"{key}: alert ({limit.alert:g}) would come before warn ({limit.warn:g})")
