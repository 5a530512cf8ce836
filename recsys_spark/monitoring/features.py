"""Measures of features: the day's distributions against those that the models learned from.

Numbers (price, quantity, events of a user, events of an order, hour of the day) are compared over bins by PSI, over at
most ten coarse ones, and by Kolmogorov and Smirnov's statistic; an item's category and brand, as its events have them,
by Jensen and Shannon's distance.
"""

from __future__ import annotations

from recsys_spark.monitoring.context import MonitorContext, Window
from recsys_spark.monitoring.distances import (
    coarse,
    deciles,
    histograms,
    jensen_shannon,
    kolmogorov_smirnov,
    most_moved,
    psi,
)
from recsys_spark.monitoring.finding import Group, Measure
from recsys_spark.monitoring.item_changes import DESCRIBED, ItemChanges, item_changes
from recsys_spark.monitoring.profile import Profile, measured_profile

GROUP: Group = "features"
NUMBERS = {"price": "price", "quantity": "quantity", "activity": "user", "basket": "order", "hour": "hour"}
"""Feature to what the profile counts by bin."""


def measure_features(context: MonitorContext) -> list[Measure]:
    """All measures of features."""
    training = context.training
    if context.clean is None or training is None:
        return context.without(GROUP, "there are no datasets that a model learned from")
    profile = measured_profile(context)
    if not profile.of("event_type", training):
        return context.without(GROUP, f"no event is from the training window, {training.first} to {training.last}")
    changes = item_changes(context)
    return [*numbers(context, profile, training), *described(context, changes), *new_items(context, changes)]


def numbers(context: MonitorContext, profile: Profile, training: Window) -> list[Measure]:
    """PSI and KS of each numeric feature that has values in both."""
    found = []
    for name, counted in NUMBERS.items():
        now, learned = profile.histograms(counted, context.today, training)
        if not now.sum() or not learned.sum():
            continue
        bins = deciles(learned)
        rows = int(now.sum())
        found.append(context.measure(GROUP, "psi", psi(coarse(now, bins), coarse(learned, bins)), rows, subject=name))
        found.append(context.measure(GROUP, "ks", kolmogorov_smirnov(now, learned), rows, subject=name))
    return found


def described(context: MonitorContext, changes: ItemChanges) -> list[Measure]:
    """The distance of the events' categories and brands, where items have them."""
    found = []
    for name in DESCRIBED:
        values = changes.values.get(name, {})
        if len(values) < 2:
            continue
        now = {value: events.day for value, events in values.items()}
        learned = {value: events.training for value, events in values.items()}
        distance = jensen_shannon(*histograms([now, learned]))
        if distance is not None:
            told = most_moved(now, learned)
            found.append(context.measure(GROUP, "js", distance, changes.whole.day, subject=name, detail=told))
    return found


def new_items(context: MonitorContext, changes: ItemChanges) -> list[Measure]:
    """Share of the day's events with items that have none in the training window."""
    events = changes.whole.day
    return [context.measure(GROUP, "new_items_share", changes.new / events, events)] if events else []
