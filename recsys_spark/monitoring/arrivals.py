"""Measures of what arrived on the day, whatever day its events are of: how late it was, and how much was rejected.

Late rows of the day itself cannot be seen on the day; those that arrive on it, for days before, can. Where days of
arrival are not known (no `source.arrival`), every row counts as arrived on its event's day, and is never late.
"""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.monitoring.context import MonitorContext, Window
from recsys_spark.monitoring.finding import Measure
from recsys_spark.monitoring.profile import Profile

Delays = dict[date, tuple[int, int]]
"""Day of arrival to (rows, days of delay of all together)."""


def arrivals(context: MonitorContext, profile: Profile) -> list[Measure]:
    """`arrival_delay`, where days of arrival are known, and `quarantined_rise`."""
    if context.clean is None:
        return []
    window = Window(context.reference.first, context.today.last)
    if context.config.daily:
        counted = by_arrival(context.events(window, complete=False)).collect()
        delays = {row["arrival_date"]: (row["events"], row["days"]) for row in counted}
    else:
        delays = {day: (events, 0) for day, events in profile.volumes().items()}
    rejects = {
        row["arrival_date"]: row["events"]
        for row in rejected(context.read("quarantine", context.clean), window).collect()
    }
    # Rows that arrived in the window's first days for days before it were not read.
    settled = Window(window.first + timedelta(days=context.config.cleaning.lateness_days), context.day)
    late = _delay(context, delays, settled) if context.config.daily else []
    return [*late, *_rejects(context, delays, rejects, settled)]


def by_arrival(events: DataFrame) -> DataFrame:
    """(arrival_date, events, days): rows that arrived on each day, and their delays added up."""
    arrived = F.coalesce("arrival_date", "event_date").alias("arrival_date")
    delay = F.greatest(F.datediff("arrival_date", "event_date"), F.lit(0))
    return events.groupBy(arrived).agg(F.count("*").alias("events"), F.sum(F.coalesce(delay, F.lit(0))).alias("days"))


def rejected(quarantine: DataFrame, window: Window) -> DataFrame:
    """(arrival_date, events): quarantined rows by day of arrival."""
    inside = F.col("arrival_date").between(window.first, window.last - timedelta(days=1))
    return quarantine.where(inside).groupBy("arrival_date").agg(F.count("*").alias("events"))


def _delay(context: MonitorContext, delays: Delays, before: Window) -> list[Measure]:
    rows, days = delays.get(context.day, (0, 0))
    earlier = [found for day, found in delays.items() if before.first <= day < before.last]
    usual_rows = sum(found[0] for found in earlier)
    if not rows or not usual_rows:
        return []
    now, usual = days / rows, sum(found[1] for found in earlier) / usual_rows
    return [context.measure("events", "arrival_delay", now - usual, rows, reference=usual, detail=f"{now:.2f}")]


def _rejects(context: MonitorContext, delays: Delays, rejects: dict[date, int], before: Window) -> list[Measure]:
    days = {day for day in {*delays, *rejects} if before.first <= day < before.last}
    bad, all_ = rejects.get(context.day, 0), rejects.get(context.day, 0) + delays.get(context.day, (0, 0))[0]
    bad_before = sum(rejects.get(day, 0) for day in days)
    all_before = bad_before + sum(delays.get(day, (0, 0))[0] for day in days)
    if not all_ or not all_before:
        return []
    share, usual = bad / all_, bad_before / all_before
    return [context.measure("events", "quarantined_rise", share - usual, all_, reference=usual, detail=f"{share:.1%}")]
