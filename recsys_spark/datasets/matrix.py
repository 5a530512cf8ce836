"""The user-item matrix of a fit: one row for each user and item that met."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recsys_spark.datasets.flat import FlatHistories, hashed
from recsys_spark.datasets.petastorm_writer import Rows, ints

DAY = 86_400
MATRIX = pa.schema(
    [
        ints("user_index"),
        ints("item"),
        ints("weight", pa.float32()),
        ints("count"),
        ints("last_time", pa.int64()),
        ints("row_weight", pa.float32()),
    ]
)
"""item is the vocabulary's code, weight the sum of the (decayed) event weights, last_time epoch seconds."""


def matrix_rows(flat: FlatHistories, seed: int, cut_time: int, half_life_days: float | None = None) -> Rows:
    """The matrix rows of users' events of a fit, `items` as codes.

    With a half-life, the weight of an event is multiplied by 2^(-age / half-life), its age counted back from cut_time.
    """
    user = flat.rows
    top = int(flat.items.max(initial=0)) + 1
    order = np.argsort(user * top + flat.items, kind="stable")
    user, items = user[order], flat.items[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(user) != 0) | (np.diff(items) != 0)][: len(user)])
    weights = flat.weights.astype(np.float64)
    if half_life_days is not None:
        weights *= np.exp2((flat.times - cut_time) / (half_life_days * DAY))
    users, items = flat.users[user[starts]], items[starts]
    some = len(starts) > 0  # reduceat takes no empty array
    summed = np.add.reduceat(weights[order], starts) if some else weights
    last = np.maximum.reduceat(flat.times[order], starts) if some else flat.times
    return Rows(
        key=hashed(seed, users, items),
        tie=items,
        columns={
            "user_index": users.astype(np.int32),
            "item": items.astype(np.int32),
            "weight": summed.astype(np.float32),
            "count": np.diff(np.r_[starts, len(user)]).astype(np.int32),
            "last_time": last,
        },
    )
