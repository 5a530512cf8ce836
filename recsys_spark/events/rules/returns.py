"""Returns netted against their purchases: a return undoes the latest purchases before it, as brackets close."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_spark.events.rules.bucket_rows import PURCHASE, Bucket, combined, starts


def netted(
    bucket: Bucket, takes_part: NDArray[np.bool_], return_days: int
) -> tuple[dict[str, NDArray[np.bool_]], NDArray[np.float64]]:
    """The reasons `returned`, `return` and `unmatched_return` to bool[N], and the quantities that remain.

    A return undoes the user's purchases of the item, the latest first, that are at most `return_days` older; of one
    moment, purchases come before returns. A quantity that is null counts as 1. Rows outside of `takes_part` bool[N]
    undo nothing and are not undone; returns among them are unmatched.

    What a return takes from a purchase depends on the rows between the two alone: later purchases lie above it on the
    stack, and what lies below is not touched before it is used up. So a verdict reaches `return_days` and no further.
    """
    returns = bucket.returns
    size = np.where(np.isnan(bucket.quantity), 1.0, np.abs(bucket.quantity))
    quantity = bucket.quantity.copy()
    matched, returned = np.zeros(len(bucket), bool), np.zeros(len(bucket), bool)
    rows = np.flatnonzero(takes_part & (returns | (bucket.event_types == PURCHASE)) & (size > 0))
    concerned = _pairs_with_returns(bucket, rows, returns)
    open_: list[int] = []
    left = size.copy()
    for row, new_pair in concerned:
        if new_pair:
            open_ = []
        if not returns[row]:
            open_.append(row)
            continue
        oldest = bucket.days[row] - return_days
        while open_ and left[row] > 0 and bucket.days[open_[-1]] >= oldest:
            undone = min(left[row], left[open_[-1]])
            matched[row] = True
            left[row] -= undone
            left[open_[-1]] -= undone
            quantity[open_[-1]] = left[open_[-1]]
            if left[open_[-1]] <= 0:
                returned[open_.pop()] = True
    quantity[returned] = bucket.quantity[returned]  # as they stand in quarantine
    return {"returned": returned, "return": matched, "unmatched_return": returns & ~matched}, quantity


def _pairs_with_returns(bucket: Bucket, rows: NDArray[np.int64], returns: NDArray[np.bool_]) -> list[tuple[int, bool]]:
    """The rows of pairs of user and item that have a return, pair by pair in the order of time; where a pair starts."""
    if not returns[rows].any():
        return []
    users = np.isin(bucket.users[rows], np.unique(bucket.users[rows][returns[rows]]))
    rows = rows[users]
    pair = combined(bucket.users[rows], bucket.items[rows])
    rows_kept = np.isin(pair, np.unique(pair[returns[rows]]))
    rows, pair = rows[rows_kept], pair[rows_kept]
    order = np.lexsort((np.arange(len(rows)), returns[rows], bucket.times[rows], pair))
    rows, pair = rows[order], pair[order]
    return list(zip(rows.tolist(), starts(pair).tolist(), strict=True))
