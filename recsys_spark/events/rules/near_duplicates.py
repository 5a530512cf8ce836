"""Near duplicates: one user, item and type again within moments, as double clicks and retried requests log them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_spark.events.rules.bucket_rows import SECOND, Bucket, combined, starts


def near_duplicates(bucket: Bucket, seconds: float | None) -> NDArray[np.bool_]:
    """bool[N]: rows less than `seconds` after the last kept row of the same user, item, type and day; none where None.

    Of a chain of rows one a second, rows at least `seconds` apart stay. A return is never a copy of a purchase.
    """
    found = np.zeros(len(bucket), bool)
    if seconds is None or len(bucket) < 2:
        return found
    limit = round(seconds * SECOND)
    near = np.flatnonzero(_has_neighbour(bucket, limit))
    if not len(near):
        return found
    rows = bucket.where(_mask(len(bucket), near))
    same = combined(rows.users, rows.days, rows.items, rows.event_types, rows.returns.astype(np.int64))
    order = np.argsort(same, kind="stable")  # keeps the order of time within what is the same
    times, first = rows.times[order], starts(same[order])
    gaps = np.diff(times, prepend=times[:1])
    # A run is a stretch of rows each less than the limit after the one before: its first row stays for certain.
    run_starts = first | (gaps >= limit)
    dropped = np.zeros(len(order), bool)
    dropped[~run_starts] = _dropped_in_runs(times, run_starts, limit)[~run_starts]
    found[near[order[dropped]]] = True
    return found


def _has_neighbour(bucket: Bucket, limit: int) -> NDArray[np.bool_]:
    """bool[N]: rows with another row of the same user and day less than the limit away; the others need no look."""
    close = ~starts(bucket.users, bucket.days)[1:] & (np.diff(bucket.times) < limit)
    return np.append(close, False) | np.append(False, close)


def _dropped_in_runs(times: NDArray[np.int64], run_starts: NDArray[np.bool_], limit: int) -> NDArray[np.bool_]:
    """Walk all runs at once, each step from a kept row to the next kept one; steps are as many as one run keeps."""
    heads = np.flatnonzero(run_starts)
    ends = np.append(heads[1:], len(times))
    keep = np.zeros(len(times), bool)
    several = ends - heads > 1
    keep[heads] = True
    # Times of different runs are set far apart, so that one sorted array serves all searches.
    run = np.cumsum(run_starts) - 1
    length = int((times[ends - 1] - times[heads]).max()) + limit + 1
    offset = times - times[heads][run] + run * length
    here, end = heads[several], ends[several]
    while len(here):
        ahead = np.searchsorted(offset, offset[here] + limit)
        inside = ahead < end
        here, end = ahead[inside], end[inside]
        keep[here] = True
    return ~keep


def _mask(size: int, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[places] = True
    return mask
