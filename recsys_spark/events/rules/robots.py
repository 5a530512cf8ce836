"""Robots: users whose events of a day are too many, too various or too regular for a person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_spark.config.cleaning import Robots
from recsys_spark.events.rules.bucket_rows import SECOND, Bucket, combined, starts

HOUR = 3600 * SECOND


def robots(bucket: Bucket, limits: Robots) -> NDArray[np.bool_]:
    """bool[N]: all rows of the users and days for which any limit was passed."""
    if not len(bucket):
        return np.zeros(0, bool)
    first = starts(bucket.users, bucket.days)
    heads = np.flatnonzero(first)
    day = np.cumsum(first) - 1  # one number a user and day: the group
    sizes = np.diff(np.append(heads, len(bucket)))
    guilty = np.zeros(len(heads), bool)
    if limits.events_an_hour is not None:
        guilty |= _too_many_an_hour(bucket.times, day, limits.events_an_hour, len(heads))
    if limits.distinct_items is not None:
        guilty |= _too_many_items(bucket.items, day, sizes, limits.distinct_items)
    if limits.regularity is not None:
        guilty |= _too_regular(bucket.times, heads, sizes, limits.regularity, limits.min_events)
    return guilty[day]


def _too_many_an_hour(times: NDArray[np.int64], day: NDArray[np.int64], limit: int, groups: int) -> NDArray[np.bool_]:
    """More than `limit` events in some hour: an event and the `limit`-th after it are less than an hour apart."""
    guilty = np.zeros(groups, bool)
    within = (day[limit:] == day[:-limit]) & (times[limit:] - times[:-limit] < HOUR)
    guilty[day[limit:][within]] = True
    return guilty


def _too_many_items(
    items: NDArray[np.int64], day: NDArray[np.int64], sizes: NDArray[np.int64], limit: int
) -> NDArray[np.bool_]:
    busy = (sizes > limit)[day]  # fewer events cannot have more items
    pairs = np.unique(combined(day[busy], items[busy]), return_index=True)[1]
    return np.bincount(day[busy][pairs], minlength=len(sizes)) > limit


def _too_regular(
    times: NDArray[np.int64], heads: NDArray[np.int64], sizes: NDArray[np.int64], limit: float, least: int
) -> NDArray[np.bool_]:
    """Deviation of the gaps over their mean; where all events share one moment there is nothing to judge."""
    gaps = np.diff(times, prepend=times[:1]).astype(np.float64)
    gaps[heads] = 0.0
    mean = np.add.reduceat(gaps, heads) / np.maximum(sizes - 1, 1)
    off = (gaps - np.repeat(mean, sizes)) ** 2
    off[heads] = 0.0
    deviation = np.sqrt(np.add.reduceat(off, heads) / np.maximum(sizes - 1, 1))
    return (sizes >= least) & (mean > 0) & (deviation < limit * mean)
