"""Sampled negatives of sequence rows: items that a user has no event with, drawn by a power of their counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recsys_spark.datasets.flat import FlatHistories, Ints, hashed

DRAWS_A_CHUNK = 500_000
"""Negatives that are drawn at once."""
ATTEMPTS = 16
"""Draws of one negative before the items that the user does not know are listed instead."""


def draw_negatives(
    seed: int, flat: FlatHistories, users: Ints, numbers: Ints, counts_I: Ints, power: float, negatives: int
) -> npt.NDArray[np.int32]:
    """[R, negatives] tokens (code + 1) for the rows (users[r], numbers[r]): row of the user in `flat`, and its window.

    Item i is drawn with replacement with p proportional to count_i ** power among the items that are not in the user's
    history, by rejection: a draw is a function of (seed, user, window, place, attempt) alone. Where the user knows the
    whole vocabulary, the row holds 0.
    """
    weights_I = np.maximum(counts_I, 1).astype(np.float64) ** power
    known = np.unique(flat.rows * len(counts_I) + flat.items)
    drawn = np.zeros((len(users), negatives), dtype=np.int32)
    rows = max(1, DRAWS_A_CHUNK // max(1, negatives))
    for start in range(0, len(users), rows):
        part = slice(start, start + rows)
        drawn[part] = _drawn(seed, flat, users[part], numbers[part], weights_I, known, negatives)
    return drawn


def _drawn(
    seed: int,
    flat: FlatHistories,
    users: Ints,
    numbers: Ints,
    weights_I: npt.NDArray[np.float64],
    known: Ints,
    negatives: int,
) -> npt.NDArray[np.int32]:
    """The tokens of some of the rows; `known` holds row * I + item of what each user knows, ascending."""
    cumulative_I = np.cumsum(weights_I)
    items = len(weights_I)
    drawn = np.zeros((len(users), negatives), dtype=np.int32)
    row, place = (part.reshape(-1) for part in np.indices(drawn.shape))
    for attempt in range(ATTEMPTS):
        uniform = _uniform(seed, flat.users[users[row]], numbers[row], place, attempt)
        code = np.searchsorted(cumulative_I, uniform * cumulative_I[-1], side="right").clip(max=items - 1)
        pair = users[row] * items + code
        seen = known[np.searchsorted(known, pair).clip(max=len(known) - 1)] == pair
        drawn[row[~seen], place[~seen]] = code[~seen] + 1
        row, place = row[seen], place[seen]
        if not len(row):
            return drawn
    uniform = _uniform(seed, flat.users[users[row]], numbers[row], place, ATTEMPTS)
    for user in np.unique(users[row]).tolist():
        own = np.flatnonzero(users[row] == user)
        left_I = weights_I.copy()
        left_I[flat.items[flat.offsets[user] : flat.offsets[user + 1]]] = 0.0
        unknown = np.flatnonzero(left_I)
        if len(unknown):
            among = np.cumsum(left_I[unknown])
            at = np.searchsorted(among, uniform[own] * among[-1], side="right").clip(max=len(unknown) - 1)
            drawn[row[own], place[own]] = unknown[at] + 1
    return drawn


def _uniform(seed: int, users: Ints, numbers: Ints, places: Ints, attempt: int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), of 53 bits of a hash."""
    key = hashed(seed, users, numbers, places, np.full(len(users), attempt))
    return (key >> 10).astype(np.float64) * 2.0**-53
