"""Findings for tests, written by hand."""

from __future__ import annotations

from datetime import date, timedelta

from recsys_spark.monitoring.finding import Finding, Group, Measure, Status
from recsys_spark.monitoring.kinds import Kind

DAY = date(2024, 3, 24)
KINDS = {
    kind.key: kind
    for kind in (
        Kind(
            group="events",
            name="price",
            title="Prices",
            sentence="",
            look="",
            bad="both",
            warn=1.5,
            alert=3,
            form="times",
        ),
        Kind(
            group="events", name="mix", title="Kinds of events", sentence="", look="", bad="high", warn=0.2, alert=0.4
        ),
        Kind(group="lists", name="same", title="One list", sentence="", look="", bad="high", warn=0.3, form="share"),
        Kind(group="bias", name="gap", title="Gap", sentence="", look="", bad="high"),
    )
}


def finding(
    status: Status,
    key: str = "events.price",
    subject: str = "",
    value: float | None = 1.0,
    day: date = DAY,
    sentence: str = "",
    reference: float | None = None,
) -> Finding:
    group, _, name = key.partition(".")
    typed: Group = group  # type: ignore[assignment]
    measure = Measure(day=day, group=typed, name=name, subject=subject, value=value, reference=reference)
    return Finding(measure, status, sentence or f"{name} is {value}")


def earlier(days: int) -> date:
    return DAY - timedelta(days=days)
