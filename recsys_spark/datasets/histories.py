"""The histories table: one row a user, events oldest first, each with its fold; from clean events without a shuffle.

clean_events lie in files by user bucket (events.layout), so a task reads a bucket and has its users' whole histories. A
task holds the events of one bucket, the ids of its users, and the id map of all items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.datasets.flat import FlatHistories, Ints
from recsys_spark.datasets.split import Cuts
from recsys_spark.datasets.tasks import read_columns
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.tables.files import new_file

COLUMNS = ("user_id", "item_id", "event_type", "event_time")
EVENTS_A_ROW_GROUP = 1_000_000
HISTORIES = pa.schema(
    [
        pa.field("user_index", pa.int32()),
        pa.field("user_id", pa.string()),
        pa.field("items", pa.list_(pa.int32())),
        pa.field("event_types", pa.list_(pa.int32())),
        pa.field("weights", pa.list_(pa.float32())),
        pa.field("times", pa.list_(pa.int64())),
        pa.field("folds", pa.list_(pa.int32())),
    ]
)


def bucket_histories(
    files: Sequence[str], item_ids: Path, user_ids: pa.Table, event_weights: Mapping[str, float], cuts: Cuts
) -> tuple[pa.Array, FlatHistories]:
    """The users of a bucket in the order of user_id, and their events before cuts.as_of.

    `files` are the bucket's in day order, each sorted by (user_id, event_time, source_file, source_order); `item_ids`
    is the table's directory, `user_ids(user_id, user_index)` the ids of the bucket's users. Raises RuntimeError where
    an id is missing or events are out of order, that is, where clean_events is not what its layout says.
    """
    parts = [_before(pq.ParquetFile(file, read_dictionary=list(COLUMNS[:3])), cuts.as_of) for file in files]
    table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    users, items, types = (_encoded(table, name) for name in COLUMNS[:3])
    times = table["time"].to_numpy()
    # The place of each distinct user_id among the sorted ones, in bytes, as Spark compares strings.
    sorted_ids = pc.sort_indices(users.dictionary)
    place = np.empty(len(sorted_ids), dtype=np.int64)
    place[sorted_ids.to_numpy()] = np.arange(len(sorted_ids))
    row = place[users.indices.to_numpy()]
    item = _lookup(items, item_index(str(item_ids)), f"clean_events {files[0]}: an item_id has no index")
    kind, weight = _by_type(types, event_weights)
    if len(parts) > 1:
        order = np.argsort(row, kind="stable")  # days are in order, so time stays in order within a user
        row, times, item, kind, weight = row[order], times[order], item[order], kind[order], weight[order]
    step = np.diff(row)
    if (step < 0).any() or (np.diff(times)[step == 0] < 0).any():
        raise RuntimeError(f"clean_events {files[0]}: rows are not sorted by user and time")
    starts = np.flatnonzero(np.r_[True, step != 0]) if len(row) else np.zeros(0, dtype=np.int64)
    offsets = np.r_[starts, len(row)].astype(np.int64)
    ids = users.dictionary.take(sorted_ids.take(pa.array(row[starts])))
    known = pc.index_in(ids, value_set=user_ids["user_id"])
    if known.null_count:
        raise RuntimeError(f"clean_events {files[0]}: a user is not of this bucket, or has no index")
    index = user_ids["user_index"].take(known).to_numpy()
    folds = cuts.folds(times, offsets).astype(np.int64)
    return ids, FlatHistories(index.astype(np.int64), offsets, item, kind, weight, times, folds)


def _before(file: pq.ParquetFile, as_of: int) -> pa.Table:
    """The columns of a file with the time in seconds, and the events before as_of alone."""
    table = file.read(list(COLUMNS), use_threads=False)
    a_second = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}[table.schema.field("event_time").type.unit]
    times = np.floor_divide(table["event_time"].cast(pa.int64()).to_numpy(), a_second)
    table = table.select(list(COLUMNS[:3])).append_column("time", pa.array(times))
    return table if not len(times) or times.max() < as_of else table.filter(pa.array(times < as_of))


def _encoded(table: pa.Table, name: str) -> pa.DictionaryArray:
    column = table[name].combine_chunks()
    return column if isinstance(column, pa.DictionaryArray) else column.chunk(0)


@lru_cache(maxsize=2)
def item_index(directory: str) -> tuple[pa.ChunkedArray, npt.NDArray[np.int64]]:
    """Ids and indices of all items: item-sized, held once by each Python worker (paths are never reused)."""
    table = read_columns(Path(directory), ["item_id", "item_index"])
    return table["item_id"], table["item_index"].to_numpy().astype(np.int64)


def _lookup(column: pa.DictionaryArray, index: tuple[pa.ChunkedArray, Ints], missing: str) -> Ints:
    """The index of each value; the map is asked once for each distinct one."""
    codes = column.indices.to_numpy()
    at = pc.fill_null(pc.index_in(column.dictionary, value_set=index[0]), -1).to_numpy()
    # A value of the dictionary may be that of a filtered row alone.
    if len(codes) and (at[codes] < 0).any():
        raise RuntimeError(missing)
    return index[1][at][codes] if len(codes) else np.zeros(0, dtype=np.int64)


def _by_type(column: pa.DictionaryArray, weights: Mapping[str, float]) -> tuple[Ints, npt.NDArray[np.float32]]:
    """The code and the weight of each event's type; none is `other`."""
    names = [*column.dictionary.to_pylist(), None]
    code = np.array([EVENT_TYPES.index(name) if name in EVENT_TYPES else 0 for name in names], dtype=np.int64)
    weight = np.array([weights.get(name, 0.0) for name in names], dtype=np.float32)
    at = pc.fill_null(column.indices, len(names) - 1).to_numpy()
    return code[at], weight[at]


def write_histories(ids: pa.Array, flat: FlatHistories, path: Path) -> None:
    """Write a bucket's file of the table histories, a row a user."""
    ends = pa.array(flat.offsets, pa.int32())
    lists = [
        pa.ListArray.from_arrays(ends, pa.array(values, HISTORIES.field(name).type.value_type))
        for name, values in (
            ("items", flat.items.astype(np.int32)),
            ("event_types", flat.event_types.astype(np.int32)),
            ("weights", flat.weights),
            ("times", flat.times),
            ("folds", flat.folds.astype(np.int32)),
        )
    ]
    table = pa.Table.from_arrays([pa.array(flat.users, pa.int32()), ids, *lists], names=HISTORIES.names)
    rows = max(1, EVENTS_A_ROW_GROUP * len(ids) // max(1, len(flat.items)))
    with new_file(path) as file:
        pq.write_table(table, file, row_group_size=rows, compression="zstd", use_dictionary=DICTIONARIES)


DICTIONARIES = [f"{name}.list.element" for name in ("items", "event_types", "weights", "folds")]
"""Columns with few distinct values; ids and times are written as they are."""


def read_histories(path: str) -> FlatHistories:
    """A bucket's file of the table histories."""
    table = pq.ParquetFile(path).read([name for name in HISTORIES.names if name != "user_id"], use_threads=False)
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    return FlatHistories.from_batch(batch)


def refolded(histories: DataFrame, cuts: Cuts) -> DataFrame:
    """The table with the folds of a backtest: train, valid, and as test (2) all from the end of its valid window on."""
    assert cuts.valid_start is not None
    assert cuts.test_start is not None
    starts = (F.lit(cuts.valid_start), F.lit(cuts.test_start))

    def fold(time: Column) -> Column:
        return (time >= starts[0]).cast("int") + (time >= starts[1]).cast("int")

    return histories.withColumn("folds", F.transform("times", fold))
