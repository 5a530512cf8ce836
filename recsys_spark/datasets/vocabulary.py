"""The items of a fit, and how many events each had: counted once for all fits."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.datasets.flat import FlatHistories, hashed

COUNTS = "fold int, item_index int, count bigint, first bigint, last bigint, weight float, fingerprint bigint"
VOCABULARY = pa.schema(
    [
        pa.field("code", pa.int32(), nullable=False),
        pa.field("item_index", pa.int32(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)
Batches = Iterable[pa.RecordBatch]


def item_counts(histories: DataFrame) -> DataFrame:
    """One row a fold and item: events, first and last time (epoch seconds), highest weight, and their fingerprint.

    The fingerprint is the exclusive or of a hash of each event (user, place in the history, item, type, time): the same
    whatever the order of rows, and different when an event changes.
    """
    partial = histories.mapInArrow(_count_items, COUNTS)
    return partial.groupBy("fold", "item_index").agg(
        F.sum("count").alias("count"),
        F.min("first").alias("first"),
        F.max("last").alias("last"),
        F.max("weight").alias("weight"),
        F.bit_xor("fingerprint").alias("fingerprint"),
    )


def _count_items(batches: Batches) -> Batches:
    for batch in batches:
        flat = FlatHistories.from_batch(batch)
        if not len(flat.items):
            continue
        rows = flat.rows
        place = np.arange(len(rows)) - flat.offsets[rows]
        prints = hashed(1, flat.users[rows], place, flat.items, flat.event_types, flat.times)
        order = np.lexsort((flat.items, flat.folds))
        folds, items, times = flat.folds[order], flat.items[order], flat.times[order]
        starts = np.flatnonzero(np.r_[True, (np.diff(folds) != 0) | (np.diff(items) != 0)])
        columns = [
            pa.array(folds[starts], pa.int32()),
            pa.array(items[starts], pa.int32()),
            pa.array(np.diff(np.r_[starts, len(items)]), pa.int64()),
            pa.array(np.minimum.reduceat(times, starts), pa.int64()),
            pa.array(np.maximum.reduceat(times, starts), pa.int64()),
            pa.array(np.maximum.reduceat(flat.weights[order], starts), pa.float32()),
            pa.array(np.bitwise_xor.reduceat(prints[order], starts), pa.int64()),
        ]
        names = ["fold", "item_index", "count", "first", "last", "weight", "fingerprint"]
        yield pa.RecordBatch.from_arrays(columns, names)


def fold_spans(counts: DataFrame) -> tuple[dict[int, tuple[int, int, int]], dict[int, int]]:
    """Fold to (events, first, last time), and fold to fingerprint; at most three rows."""
    rows = counts.groupBy("fold").agg(
        F.sum("count").alias("events"),
        F.min("first").alias("first"),
        F.max("last").alias("last"),
        F.bit_xor("fingerprint").alias("fingerprint"),
    )
    found = rows.collect()
    spans = {row["fold"]: (row["events"], row["first"], row["last"]) for row in found}
    return spans, {row["fold"]: row["fingerprint"] for row in found}


def write_vocabulary(counts: DataFrame, items: DataFrame, folds: Sequence[int], path: Path) -> int:
    """Write vocabulary.parquet of the items with events in the folds, codes 0.. in the order of item_id; their number.

    It is one file, item-sized, and streams through one task; `items(item_index, item_id, title)`.
    """
    rows = (
        counts.where(F.col("fold").isin(list(folds)))
        .groupBy("item_index")
        .agg(F.sum("count").alias("count"))
        .join(items.select("item_index", "item_id", "title"), on="item_index", how="inner")
        .select("item_index", "item_id", F.coalesce("title", "item_id").alias("title"), "count")
        .repartition(1)
        .sortWithinPartitions("item_id")
    )
    target = str(path)

    def write(batches: Batches) -> Batches:
        temporary, number = f"{target}.{uuid.uuid4().hex}", 0
        with pq.ParquetWriter(temporary, VOCABULARY) as writer:
            for batch in batches:
                code = pa.array(np.arange(number, number + batch.num_rows), pa.int32())
                columns = [code, *(batch.column(name) for name in VOCABULARY.names[1:])]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=VOCABULARY))
                number += batch.num_rows
        os.replace(temporary, target)
        yield pa.RecordBatch.from_pydict({"rows": pa.array([number], pa.int64())})

    return int(rows.mapInArrow(write, "rows bigint").agg(F.max("rows")).collect()[0][0])
