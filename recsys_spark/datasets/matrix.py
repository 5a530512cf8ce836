"""The user-item matrix of a fit: one row for each user and item that met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from recsys_spark.datasets.flat import FlatHistories, hashed
from recsys_spark.datasets.petastorm_writer import BUCKET, KEY, TIE, ints, spark_schema

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
"""item is the vocabulary's code, weight the sum of event weights, last_time epoch seconds."""


def matrix_rows(histories: DataFrame, vocabulary: Path, folds: Sequence[int], seed: int, row_groups: int) -> DataFrame:
    """The rows of the matrix dataset. Each worker holds the vocabulary's codes (item-sized)."""

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            yield matrix_batch(FlatHistories.from_batch(batch), vocabulary, folds, seed, row_groups)

    return histories.mapInArrow(rows, spark_schema(MATRIX))


def matrix_batch(
    histories: FlatHistories, vocabulary: Path, folds: Sequence[int], seed: int, row_groups: int
) -> pa.RecordBatch:
    """The matrix rows of a batch of users."""
    flat = histories.in_folds(folds).in_vocabulary(vocabulary)
    rows = flat.rows
    order = np.lexsort((flat.items, rows))
    rows, items = rows[order], flat.items[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(rows) != 0) | (np.diff(items) != 0)]) if len(rows) else rows
    users, items = flat.users[rows[starts]], items[starts]
    if len(starts):
        weights = np.add.reduceat(flat.weights[order].astype(np.float64), starts)
        last = np.maximum.reduceat(flat.times[order], starts)
    else:
        weights = last = np.zeros(0)
    key = hashed(seed, users, items)
    columns = {
        BUCKET: pa.array(key % row_groups, pa.int32()),
        KEY: pa.array(key, pa.int64()),
        TIE: pa.array(items, pa.int32()),
        "user_index": pa.array(users, pa.int32()),
        "item": pa.array(items, pa.int32()),
        "weight": pa.array(weights.astype(np.float32)),
        "count": pa.array(np.diff(np.r_[starts, len(rows)]), pa.int32()),
        "last_time": pa.array(last.astype(np.int64)),
    }
    return pa.RecordBatch.from_pydict(columns)
