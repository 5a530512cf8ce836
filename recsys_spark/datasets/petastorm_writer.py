"""Datasets that Petastorm reads in equal shards: plain Parquet, every row group of the same number of rows.

Rows are written twice. A task that made rows writes them loose: one Arrow file, in it one record batch for each row
group of the dataset, lists unpadded. Then a task a row group gathers its batch of every loose file, sorts the rows by
their hash, pads and writes. No row passes through the JVM, and the content is the same however rows were partitioned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.datasets.flat import Ints
from recsys_spark.tables.files import new_file

KEY, TIE = "_key", "_tie"
"""Of each loose row: the hash that it is sorted by, and what decides between equal hashes of a user."""
FEW_VALUES = ("length", "weight", "count", "row_weight", "target_count")
DICTIONARIES = [*FEW_VALUES, *(f"{name}.list.element" for name in ("event_types", "sessions", "targets"))]
"""Columns worth a dictionary; it takes longer to find that the others, with a value a row nearly, are not."""
Columns = dict[str, npt.NDArray[np.generic]]
Derive = Callable[[Columns], Columns]
"""Makes further columns from the padded ones."""


def ints(name: str, type_: pa.DataType | None = None) -> pa.Field:
    """A non-null column, int32 unless told otherwise."""
    return pa.field(name, type_ or pa.int32(), nullable=False)


def list_of(name: str, type_: pa.DataType | None = None) -> pa.Field:
    """A non-null column of lists without nulls, all of one length."""
    return pa.field(name, pa.list_(pa.field("element", type_ or pa.int32(), nullable=False)), nullable=False)


def lists(matrix: npt.NDArray[np.generic], type_: pa.DataType | None = None) -> pa.ListArray:
    """A [R, L] array as R lists of L."""
    rows, length = matrix.shape
    kind = type_ or pa.int32()
    values = pa.array(np.ascontiguousarray(matrix, dtype=kind.to_pandas_dtype()).reshape(-1), kind)
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * length, pa.int32()), values)


@dataclass(frozen=True)
class Rows:
    """Rows of a dataset before they are spread over its row groups."""

    key: Ints
    """[R] a hash: it gives the row group and the place in there."""
    tie: Ints
    """[R] decides between equal hashes of a user."""
    columns: Mapping[str, npt.NDArray[np.generic]]
    """[R] or [R, L], among them user_index, in the types to be written."""
    first: Ints | None = None
    """[R] where each row's events begin in the arrays of `events`; they are `columns["length"]` many."""
    events: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    """[N] of which each row has a slice: its lists before they are padded."""

    def with_columns(self, **columns: npt.NDArray[np.generic]) -> Rows:
        """The same rows with further columns."""
        return replace(self, columns={**self.columns, **columns})


def write_loose(rows: Rows, row_groups: int, path: Path) -> Ints:
    """Write one loose file; the number of rows for each row group."""
    group = (rows.key % row_groups).astype(np.min_scalar_type(row_groups))
    order = np.argsort(group, kind="stable")  # of small integers: a radix sort
    sizes = np.bincount(group, minlength=row_groups)
    arrays = {KEY: pa.array(rows.key[order]), TIE: pa.array(rows.tie[order].astype(np.int32))}
    for name, column in rows.columns.items():
        chosen = column[order]
        arrays[name] = lists(chosen, pa.from_numpy_dtype(chosen.dtype)) if chosen.ndim == 2 else pa.array(chosen)
    if rows.first is not None:
        length = rows.columns["length"][order].astype(np.int64)
        ends = np.cumsum(length)
        at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(rows.first[order] - (ends - length), length)
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        for name, values in rows.events.items():
            arrays[name] = pa.ListArray.from_arrays(offsets, pa.array(values[at]))
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    with new_file(path) as file, pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        start = 0
        for size in sizes.tolist():
            writer.write_batch(batch.slice(start, size))
            start += size
    return sizes


def read_loose(path: Path, row_group: int) -> pa.RecordBatch:
    """The rows that a loose file has for one row group."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).get_batch(row_group)


def gather(
    files: Sequence[Path],
    row_group: int,
    schema: pa.Schema,
    lengths: Mapping[str, int],
    size: int,
    directory: Path,
    derive: Derive | None = None,
) -> None:
    """Write one row group from its rows in all loose files. A task holds one row group in memory."""
    table = pa.Table.from_batches([read_loose(file, row_group) for file in files])
    write_row_group(table, row_group, schema, lengths, size, directory, derive)


def write_row_group(
    loose: pa.Table,
    row_group: int,
    schema: pa.Schema,
    lengths: Mapping[str, int],
    size: int,
    directory: Path,
    derive: Derive | None = None,
) -> None:
    """Write `part-<row_group>.parquet` of one row group of `size` rows: loose rows by hash, then filler.

    `schema` ends with row_weight float32: 1, or 0 in the filler rows (all zeros) that make row groups equal. `lengths`
    is the length of each list column. A row's file and place follow from its hash alone, so each file is a random
    sample.
    """
    order = by_hash(loose)
    columns: Columns = {"row_weight": (np.arange(size) < len(order)).astype(np.float32)}
    for name in loose.column_names:
        if name in (KEY, TIE):
            continue
        if name in lengths:
            columns[name] = _padded(loose[name], order, size, lengths[name])
        else:
            values = loose[name].to_numpy()
            columns[name] = np.zeros(size, dtype=values.dtype)
            columns[name][: len(order)] = values[order]
    if derive is not None:
        columns |= derive(columns)
    arrays = [
        lists(columns[own.name], own.type.value_type)
        if pa.types.is_list(own.type)
        else pa.array(columns[own.name], own.type)
        for own in schema
    ]
    with new_file(directory / f"part-{row_group:05d}.parquet") as file:
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema),
            file,
            row_group_size=max(1, size),
            compression="zstd",
            use_dictionary=DICTIONARIES,
        )


def by_hash(loose: pa.Table) -> Ints:
    """The order of loose rows: by hash, and by user and tie where hashes are equal, which hardly ever happens."""
    key = loose[KEY].to_numpy()
    order = np.argsort(key)  # not stable, but three times as fast; equal hashes are sorted below
    ordered = key[order]
    if (ordered[1:] == ordered[:-1]).any():
        return np.lexsort((loose[TIE].to_numpy(), loose["user_index"].to_numpy(), key))
    return order


def _padded(column: pa.ChunkedArray, order: Ints, size: int, length: int) -> npt.NDArray[np.generic]:
    """[size, length]: the lists of the rows in this order, padded with zeros at their ends, then rows of zeros."""
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    offsets, values = array.offsets.to_numpy(), array.values.to_numpy()
    first, each = offsets[:-1][order].astype(np.int64), np.diff(offsets)[order].astype(np.int64)
    before = np.cumsum(each) - each
    at = np.arange(each.sum())
    matrix = np.zeros((size, length), dtype=values.dtype)
    rows = np.arange(len(order)) * length
    matrix.reshape(-1)[at + np.repeat(rows - before, each)] = values[at + np.repeat(first - before, each)]
    return matrix
