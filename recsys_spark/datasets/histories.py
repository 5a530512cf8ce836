"""The histories table: one row a user, events oldest first, each with its fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.datasets.split import Cuts
from recsys_spark.events.types import EVENT_TYPES

SCHEMA = (
    "user_id string, items array<int>, event_types array<int>, weights array<float>, times array<bigint>, "
    "folds array<int>"
)
Batches = Iterable[pa.RecordBatch]


def histories(
    events: DataFrame, item_ids: DataFrame, user_ids: DataFrame, event_weights: Mapping[str, float], cuts: Cuts
) -> DataFrame:
    """The histories table of the events before cuts.as_of, in order (event_time, source_file, source_order).

    One shuffle of events, by user. A user's history must fit the memory of a task, nothing else must.
    """
    rows = (
        events.where(F.col("event_time") < F.timestamp_seconds(F.lit(cuts.as_of)))
        .join(item_ids, on="item_id", how="inner")
        .select(
            "user_id",
            "item_index",
            _by_type({name: code for code, name in enumerate(EVENT_TYPES)}, 0).cast("int").alias("event_type"),
            _by_type(event_weights, 0.0).cast("float").alias("weight"),
            F.unix_seconds("event_time").alias("time"),
            "event_time",
            "source_file",
            "source_order",
        )
        .repartition("user_id")
        .sortWithinPartitions("user_id", "event_time", "source_file", "source_order")
        .select("user_id", "item_index", "event_type", "weight", "time")
    )
    return rows.mapInArrow(_grouped(cuts), SCHEMA).join(user_ids, on="user_id", how="inner")


def _by_type(values: Mapping[str, float], default: float) -> Column:
    column = F.lit(default)
    for name, value in values.items():
        column = F.when(F.col("event_type") == name, F.lit(value)).otherwise(column)
    return column


def _grouped(cuts: Cuts) -> Callable[[Batches], Batches]:
    """Turn rows sorted by user into one row a user, however Arrow cuts them into batches."""

    def group(batches: Batches) -> Batches:
        open_: list[pa.RecordBatch] = []
        for batch in batches:
            if not batch.num_rows:
                continue
            ids = batch.column(0)
            starts = np.flatnonzero(pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)) + 1
            if open_ and open_[-1].column(0)[-1] != ids[0]:
                yield _lists(open_, cuts)
                open_ = []
            if len(starts):
                last = int(starts[-1])
                yield _lists([*open_, batch.slice(0, last)], cuts)
                open_ = [batch.slice(last)]
            else:
                open_.append(batch)
        if open_:
            yield _lists(open_, cuts)

    return group


def _lists(batches: list[pa.RecordBatch], cuts: Cuts) -> pa.RecordBatch:
    """Whole users' rows as one row a user."""
    table = pa.Table.from_batches(batches).combine_chunks()
    ids, items, types, weights, times = (column.chunk(0) for column in table.columns)
    changes = np.flatnonzero(pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)) + 1
    offsets = np.concatenate([[0], changes, [len(ids)]]).astype(np.int64)
    folds = cuts.folds(times.to_numpy(), offsets)
    ends = pa.array(offsets, pa.int32())
    lists = [pa.ListArray.from_arrays(ends, values) for values in (items, types, weights, times, pa.array(folds))]
    names = ["user_id", "items", "event_types", "weights", "times", "folds"]
    return pa.RecordBatch.from_arrays([ids.take(pa.array(offsets[:-1])), *lists], names)
