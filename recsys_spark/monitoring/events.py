"""Measures of the day's events: volume, mix, missing values, prices, who makes them, and what is gone.

A day is compared with the reference window, the days before it, which are taken to be as complete as it is (see
`MonitorContext.events`). Shares rest on the window's events together, tops on the median of its days.
"""

from __future__ import annotations

import statistics
from datetime import date, timedelta

from recsys_spark.monitoring.arrivals import arrivals
from recsys_spark.monitoring.context import MonitorContext, Window
from recsys_spark.monitoring.distances import histograms, jensen_shannon, most_moved
from recsys_spark.monitoring.finding import Group, Measure
from recsys_spark.monitoring.item_changes import OTHER, UNKNOWN, ItemChanges, item_changes
from recsys_spark.monitoring.kinds import KINDS
from recsys_spark.monitoring.profile import NULL, Profile, measured_profile

GROUP: Group = "events"
NULLABLE = ("price", "quantity", "order_id")
LEAST_EXPECTED = KINDS["events.category_left"].least_rows
WEEKDAYS = 2
"""Days of the same weekday from which their median is what is usual; of fewer, that of all days is."""


def measure_events(context: MonitorContext) -> list[Measure]:
    """All measures of events."""
    if context.clean is None:
        return context.without(GROUP, "there is no clean_events")
    profile, changes = measured_profile(context), item_changes(context)
    return [
        volume(context, profile),
        *mix(context, profile),
        *nulls(context, profile),
        *arrivals(context, profile),
        *prices(context, changes),
        *tops(context, profile),
        *categories(context, changes),
    ]


def volume(context: MonitorContext, profile: Profile) -> Measure:
    """Events of the day against the median of the same weekday in the reference window.

    Days without any event count as such, from the first day that has one, unless the shop is known to be closed.
    """
    settings = context.config.monitoring
    if settings.closed(context.day):
        return context.measure(GROUP, "volume_ratio", None, detail="nothing is expected (monitoring.closed_days)")
    volumes = profile.volumes()
    events = volumes.get(context.day, 0)
    days = [context.day - timedelta(days=back) for back in range(1, context.reference.days + 1)]
    known = [day for day in days if volumes and day >= min(volumes) and not settings.closed(day)]
    alike = [day for day in known if day.weekday() == context.day.weekday()]
    chosen = alike if len(alike) >= WEEKDAYS else known
    if not chosen:
        return context.measure(GROUP, "volume_ratio", None, detail="no day before it has events")
    usual = statistics.median(volumes.get(day, 0) for day in chosen)
    ratio = events / usual if usual else (float("inf") if events else None)
    rows = round(max(usual, events))
    return context.measure(GROUP, "volume_ratio", ratio, rows, reference=usual, detail=f"{events:,}")


def mix(context: MonitorContext, profile: Profile) -> list[Measure]:
    """Jensen-Shannon distance of the event types' shares."""
    now, before = profile.of("event_type", context.today), profile.of("event_type", context.reference)
    distance = jensen_shannon(*histograms([now, before]))
    if distance is None:
        return []
    return [context.measure(GROUP, "type_mix", distance, sum(now.values()), detail=most_moved(now, before))]


def nulls(context: MonitorContext, profile: Profile) -> list[Measure]:
    """Share of events without a value, less that of the days before; of columns that had one at all."""
    found = []
    for name in NULLABLE:
        now, before = profile.of(name, context.today), profile.of(name, context.reference)
        events, earlier = sum(now.values()), sum(before.values())
        if not events or not earlier:
            continue
        share, usual = now.get(NULL, 0) / events, before.get(NULL, 0) / earlier
        said = f"{share:.1%}"
        found.append(
            context.measure(GROUP, "null_rise", share - usual, events, subject=name, reference=usual, detail=said)
        )
    return found


def prices(context: MonitorContext, changes: ItemChanges) -> list[Measure]:
    """What the same items cost against the days before: the median, and how many jumped."""
    told = changes.prices
    if not told.items:
        return []
    return [
        context.measure(GROUP, "price_level", told.ratio, told.items, reference=1.0),
        context.measure(GROUP, "price_jumps", told.jumped, told.items),
    ]


def tops(context: MonitorContext, profile: Profile) -> list[Measure]:
    """The share of the busiest item and of the busiest user, against the median of the same share by day."""
    volumes = profile.volumes()
    found = []
    for entity in ("item", "user"):
        by_day = profile.tops.get(entity, {})
        top = by_day.get(context.day)
        before = [by_day[day].events / volumes[day] for day in by_day if _inside(context.reference, day)]
        if top is None or not before:
            continue
        events, usual = volumes[context.day], statistics.median(before)
        share = top.events / events
        said = f"{top.name} has {top.events:,} of {events:,} events ({share:.1%})"
        found.append(context.measure(GROUP, f"top_{entity}", share / usual, events, reference=usual, detail=said))
    return found


def categories(context: MonitorContext, changes: ItemChanges) -> list[Measure]:
    """The categories that lost most: their share of the day's events against that of the days before.

    `rows` are the events that their usual share of the day's would be, and no more than an average day has: where these
    are too few to be judged, a category is left out. `monitoring.top_items` of the others are kept.
    """
    whole = changes.whole
    if not whole.day or not whole.reference:
        return []
    found = []
    for name, events in changes.values.get("category", {}).items():
        usual = events.reference / whole.reference
        # A flood (a robot's) makes all other shares small: no more is to be expected than comes on an average day.
        expected = min(usual * whole.day, events.reference / context.reference.days)
        if name in (OTHER, UNKNOWN) or expected < LEAST_EXPECTED:
            continue
        found.append(
            context.measure(
                GROUP,
                "category_left",
                events.day / expected,
                round(expected),
                subject=name,
                reference=usual,
                detail=f"{events.day:,}",
            )
        )
    found.sort(key=lambda measure: (measure.value, -(measure.rows or 0), measure.subject))
    return found[: context.config.monitoring.top_items]


def _inside(window: Window, day: date) -> bool:
    return window.first <= day < window.last
