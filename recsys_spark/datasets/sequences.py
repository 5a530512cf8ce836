"""Sequences of a fit: histories cut into windows of one length, and the valid users of early stopping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from recsys_spark.datasets.flat import FlatHistories, Ints, hashed
from recsys_spark.datasets.petastorm_writer import BUCKET, KEY, TIE, ints, list_of, lists, spark_schema
from recsys_spark.datasets.split import TRAIN, VALID

MAX_TARGETS = 200
"""Targets kept of a valid user: the first ones. Those beyond count as misses, so there must be room for a household's
purchases of the valid window."""
CHUNK = 20_000
"""Windows that are padded at once."""
SEQUENCES = pa.schema(
    [
        ints("user_index"),
        ints("length"),
        list_of("items"),
        list_of("event_types"),
        list_of("times", pa.int64()),
        ints("row_weight", pa.float32()),
    ]
)
"""items are tokens (code + 1), oldest first from the left, 0 for padding; times are epoch seconds."""
VALID_USERS = pa.schema(
    [
        *[field for field in SEQUENCES if field.name != "row_weight"],
        list_of("targets"),
        ints("target_count"),
        ints("row_weight", pa.float32()),
    ]
)
"""As SEQUENCES, the last events of train, and the distinct tokens of the target events of valid."""
Batches = Iterable[pa.RecordBatch]


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


def sequence_rows(
    histories: DataFrame,
    vocabulary: Path,
    folds: Sequence[int],
    max_length: int,
    max_windows: int,
    seed: int,
    row_groups: int,
) -> DataFrame:
    """The rows of the sequences dataset. Each worker holds the vocabulary's codes (item-sized)."""

    def rows(batches: Batches) -> Batches:
        for batch in batches:
            flat = FlatHistories.from_batch(batch).in_folds(folds).in_vocabulary(vocabulary)
            users, number, start, end = windows(flat.lengths, max_length, max_windows)
            for low in range(0, len(users), CHUNK):
                part = slice(low, low + CHUNK)
                first = flat.offsets[users[part]] + start[part]
                columns = _placed(seed, flat.users[users[part]], number[part], row_groups)
                columns |= _padded(flat, first, (end - start)[part], max_length)
                yield pa.RecordBatch.from_pydict(columns)

    return histories.mapInArrow(rows, spark_schema(SEQUENCES))


def valid_rows(
    histories: DataFrame,
    vocabulary: Path,
    target_types: Sequence[int],
    max_length: int,
    max_users: int,
    seed: int,
    row_groups: int,
) -> DataFrame:
    """The rows of the valid dataset: at most max_users users, those of the smallest hashes.

    Eligible are users with a train event and a valid event of a target type whose item is in the vocabulary.
    """

    def rows(batches: Batches) -> Batches:
        for batch in batches:
            everything = FlatHistories.from_batch(batch).in_vocabulary(vocabulary)
            train = everything.in_folds([TRAIN])
            targets, count = distinct_targets(everything.in_folds([VALID]), target_types)
            key = hashed(seed, everything.users, np.zeros_like(everything.users))
            able = np.flatnonzero((train.lengths > 0) & (count > 0))
            # No batch can give more than all may have together.
            able = able[np.argsort(key[able], kind="stable")[:max_users]]
            length = np.minimum(train.lengths[able], max_length)
            columns = _placed(seed, everything.users[able], np.zeros_like(able), row_groups)
            columns |= _padded(train, train.offsets[able + 1] - length, length, max_length)
            columns |= {"targets": lists(targets[able]), "target_count": pa.array(count[able], pa.int32())}
            yield pa.RecordBatch.from_pydict(columns)

    return histories.mapInArrow(rows, spark_schema(VALID_USERS)).orderBy(KEY, "user_index").limit(max_users)


def distinct_targets(valid: FlatHistories, target_types: Sequence[int]) -> tuple[npt.NDArray[np.int32], Ints]:
    """[U, MAX_TARGETS] tokens in order of first occurrence, padded with 0, and [U] how many there are."""
    wanted = valid.keep(np.isin(valid.event_types, target_types))
    rows = wanted.rows
    _, first = np.unique(rows * (int(wanted.items.max(initial=0)) + 1) + wanted.items, return_index=True)
    first = np.sort(first)
    rows, tokens = rows[first], wanted.items[first] + 1
    count = np.bincount(rows, minlength=len(valid.users))
    place = np.arange(len(rows)) - (np.cumsum(count) - count)[rows]
    targets = np.zeros((len(valid.users), MAX_TARGETS), dtype=np.int32)
    kept = place < MAX_TARGETS
    targets[rows[kept], place[kept]] = tokens[kept]
    return targets, np.minimum(count, MAX_TARGETS)


def _placed(seed: int, users: Ints, number: Ints, row_groups: int) -> dict[str, pa.Array]:
    key = hashed(seed, users, number)
    return {
        BUCKET: pa.array(key % row_groups, pa.int32()),
        KEY: pa.array(key, pa.int64()),
        TIE: pa.array(number, pa.int32()),
        "user_index": pa.array(users, pa.int32()),
    }


def _padded(flat: FlatHistories, first: Ints, length: Ints, max_length: int) -> dict[str, pa.Array]:
    """The events first to first + length of each row, in lists of max_length, zeros at the end."""
    places = np.arange(max_length)
    real = places[None, :] < length[:, None]
    at = np.where(real, first[:, None] + places[None, :], 0)

    def column(values: Ints) -> Ints:
        return np.where(real, values[at], 0) if len(values) else np.zeros(at.shape, dtype=np.int64)

    return {
        "length": pa.array(length, pa.int32()),
        "items": lists(column(flat.items + 1)),
        "event_types": lists(column(flat.event_types)),
        "times": lists(column(flat.times), pa.int64()),
    }
