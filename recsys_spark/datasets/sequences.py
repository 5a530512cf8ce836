"""Sequences of a fit: histories cut into windows of one length, and the valid users of early stopping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_spark.datasets.flat import FlatHistories, Ints, hashed
from recsys_spark.datasets.petastorm_writer import Columns, Rows, ints, list_of
from recsys_spark.datasets.split import VALID

MAX_TARGETS = 200
"""Targets kept of a valid user: the first ones. Those beyond count as misses, so there must be room for a household's
purchases of the valid window."""
LONGEST_GAP = int(np.iinfo(np.int32).max)
EVENTS = [
    ints("user_index"),
    ints("length"),
    list_of("items"),
    list_of("event_types"),
    list_of("times", pa.int64()),
    list_of("gaps"),
    list_of("sessions"),
]
"""items are tokens (code + 1), oldest first from the left, 0 for padding; times are epoch seconds; gaps are seconds
since the event before, 0 for the row's first; sessions count from the most recent (1) backwards, 0 for padding."""
WEIGHT = ints("row_weight", pa.float32())
VALID_USERS = pa.schema([*EVENTS, list_of("targets"), ints("target_count"), WEIGHT])
"""The last events of the folds that the fit learns from, and the distinct tokens of the target events of valid."""


def sequences_schema(negatives: int) -> pa.Schema:
    """The sequences dataset; `negatives`, tokens of items that are not in the user's history, where there are any."""
    return pa.schema([*EVENTS, *([list_of("negatives")] if negatives else []), WEIGHT])


def windows(lengths: Ints, max_length: int, max_windows: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Cut histories into windows from the most recent event backwards.

    Neighbours share one event, so that every step from an event to the next stands in exactly one window; windows of
    less than two events are left out. Returns row of the user, number of the window (0 is the most recent), and start
    and end within the history.
    """
    step = max_length - 1
    each = np.minimum(max_windows, -(-np.maximum(lengths - 1, 0) // step))
    rows = np.repeat(np.arange(len(lengths)), each)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(each) - each, each)
    end = lengths[rows] - number * step
    return rows, number, np.maximum(end - max_length, 0), end


def sequence_rows(flat: FlatHistories, max_length: int, max_windows: int, seed: int) -> tuple[Rows, Ints, Ints]:
    """The rows of the sequences dataset from users' events of a fit, `items` as codes.

    Returns with them the row of the user in `flat` and the number of each window.
    """
    users, number, start, end = windows(flat.lengths, max_length, max_windows)
    return _rows(flat, users, number, flat.offsets[users] + start, end - start, seed), users, number


def valid_rows(
    learnt: FlatHistories, valid: FlatHistories, target_types: Sequence[int], max_length: int, max_users: int, seed: int
) -> Rows:
    """The rows of the valid dataset that these users may give: those of the max_users smallest hashes.

    Eligible are users with an event in `learnt` and, of a target type, in `valid`; the same users, `items` as codes.
    """
    targets, count = distinct_targets(valid, target_types)
    key = hashed(seed, learnt.users, np.zeros_like(learnt.users))
    able = np.flatnonzero((learnt.lengths > 0) & (count > 0))
    # No part can give more than all may have together.
    able = able[np.lexsort((learnt.users[able], key[able]))[:max_users]]
    length = np.minimum(learnt.lengths[able], max_length)
    rows = _rows(learnt, able, np.zeros_like(able), learnt.offsets[able + 1] - length, length, seed)
    more = {"targets": targets[able], "target_count": count[able].astype(np.int32)}
    return rows.with_columns(**more)


def distinct_targets(valid: FlatHistories, target_types: Sequence[int]) -> tuple[npt.NDArray[np.int32], Ints]:
    """[U, MAX_TARGETS] tokens in order of first occurrence, padded with 0, and [U] how many there are."""
    rows, items = first_occurrences(valid.in_folds([VALID]).of_types(target_types))
    count = np.bincount(rows, minlength=len(valid.users))
    place = np.arange(len(rows)) - (np.cumsum(count) - count)[rows]
    targets = np.zeros((len(valid.users), MAX_TARGETS), dtype=np.int32)
    kept = place < MAX_TARGETS
    targets[rows[kept], place[kept]] = items[kept] + 1
    return targets, np.minimum(count, MAX_TARGETS)


def first_occurrences(flat: FlatHistories) -> tuple[Ints, Ints]:
    """Row of the user and item of each event, without those of an item that the user had before."""
    rows = flat.rows
    _, first = np.unique(rows * (int(flat.items.max(initial=0)) + 1) + flat.items, return_index=True)
    first = np.sort(first)
    return rows[first], flat.items[first]


def gaps_and_sessions(columns: Columns, session_gap: int) -> Columns:
    """The columns gaps and sessions from times [R, L] and length [R]; a gap above `session_gap` seconds parts two."""
    times, length = columns["times"].astype(np.int64, copy=False), columns["length"].astype(np.int64)
    real = np.arange(times.shape[1]) < length[:, None]
    gaps = np.zeros(times.shape, dtype=np.int32)
    gaps[:, 1:] = np.minimum(
        times[:, 1:] - times[:, :-1], LONGEST_GAP, where=real[:, 1:], out=np.zeros_like(times[:, 1:])
    )
    # Session of an event: one more than the number of long gaps after it.
    sessions = np.ones(times.shape, dtype=np.int32)
    sessions[:, :-1] += np.cumsum((gaps > session_gap)[:, :0:-1], axis=1, dtype=np.int32)[:, ::-1]
    sessions[~real] = 0
    return {"gaps": gaps, "sessions": sessions}


def _rows(flat: FlatHistories, users: Ints, number: Ints, first: Ints, length: Ints, seed: int) -> Rows:
    return Rows(
        key=hashed(seed, flat.users[users], number),
        tie=number,
        columns={"user_index": flat.users[users].astype(np.int32), "length": length.astype(np.int32)},
        first=first,
        events={
            "items": (flat.items + 1).astype(np.int32),
            "event_types": flat.event_types.astype(np.int32),
            "times": flat.times,
        },
    )
