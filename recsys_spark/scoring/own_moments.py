"""Moments of users' own within a window: just after something that they did there, with an order that is still to come.

A list that is made between two nightly batches follows its user's newest event by minutes. Trees that were trained at
the start of a window alone never saw a user who bought an hour ago, nor that what he bought is not bought again at
once. Legend: B users of a block, N events, S users at a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_spark.datasets.flat import hashed
from recsys_spark.datasets.split import TRAIN
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.recommenders.histories import SECONDS_A_DAY, HistoryBlock
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.scoring.blocks import UserBlock

Ints = npt.NDArray[np.int64]
DAY = int(SECONDS_A_DAY)
ORDER_SECONDS = 3600
"""What is bought within so long of an order's first item belongs to the order."""
LINE_SECONDS = 60
"""What is bought so soon after the purchase before is no order of its own: shops that stamp each line of an order."""
NOWHERE = -1
"""The fold of events that are neither history nor relevant."""
SPAN = 1 << 40
"""More than any epoch seconds."""


@dataclass(frozen=True)
class OwnMoments:
    """A moment for each of S users of a block."""

    rows: Ints
    """[S] row of the user in the block, ascending."""
    now: Ints
    """[S] epoch seconds of his newest event: the moment, up to which, itself included, histories go."""
    until: Ints
    """[S] epoch seconds before which his next order ends."""


def draw_moments(
    events: HistoryBlock, fold: int, target_events: Sequence[str], end: int | None, most: int, seed: int
) -> list[OwnMoments]:
    """At most `most` moments of each user; entry n holds the nth of those users who have so many.

    A moment is that of an event of the fold after which a new order of the fold follows, before `end` (epoch seconds;
    None for the fold's end): the next target event begins one where the one before it is more than LINE_SECONDS older,
    so no moment lies between the lines of one order. Those come first whose order follows on the same day (UTC), before
    a nightly list would take over; by lot otherwise.
    """
    assert events.user_index is not None
    wanted = [code for code, name in enumerate(EVENT_TYPES) if name in target_events]
    inside = (events.folds == fold) & (end is None or events.times < end)
    keys = events.users[inside] * SPAN + events.times[inside]
    targets = np.unique(keys[np.isin(events.event_types[inside], wanted)])
    begins = np.diff(targets, prepend=-SPAN) > LINE_SECONDS  # another user is SPAN away
    moments = np.unique(keys)
    place = np.searchsorted(targets, moments, side="right")
    following = np.append(targets, -1)[place]
    kept = (following // SPAN == moments // SPAN) & np.append(begins, False)[place]
    rows, now, first = moments[kept] // SPAN, moments[kept] % SPAN, following[kept] % SPAN
    later = first // DAY != now // DAY
    lot = np.lexsort((hashed(seed, events.user_index[rows], now), later, rows))
    nth = np.arange(len(rows)) - np.searchsorted(rows, rows)  # rows ascend, also after sorting by lot within them
    chosen = [lot[nth == n] for n in range(most)]
    return [OwnMoments(rows[own], now[own], first[own] + ORDER_SECONDS) for own in chosen]


def at_moments(block: UserBlock, own: OwnMoments, fold: int, vocabulary: Vocabulary) -> UserBlock:
    """The users of a block at moments of their own: what is past is history, in the fold is the next order alone."""
    events = block.events
    place_B = np.full(events.size, -1)
    place_B[own.rows] = np.arange(len(own.rows))
    kept = place_B[events.users] >= 0
    users, times, folds = place_B[events.users[kept]], events.times[kept], events.folds[kept]
    past = times <= own.now[users]
    moved = np.where(folds == fold, np.where(past, TRAIN, np.where(times < own.until[users], fold, NOWHERE)), folds)
    seen = HistoryBlock(
        items=events.items[kept],
        event_types=events.event_types[kept],
        weights=events.weights[kept],
        times=times,
        folds=moved,
        users=users,
        size=len(own.rows),
        user_index=None if events.user_index is None else events.user_index[own.rows],
    )
    batch = seen.before((TRAIN,), own.now, vocabulary)
    return replace(block, user_ids=block.user_ids.take(pa.array(own.rows)), batch=batch, events=seen)
