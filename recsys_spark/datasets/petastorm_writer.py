"""Datasets that Petastorm reads in equal shards: plain Parquet, every row group of the same number of rows."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

BUCKET, KEY, TIE = "_bucket", "_key", "_tie"
"""Of each row: its row group, the hash it is sorted by in there, and what decides between equal hashes of a user."""
WRITTEN = "bucket int, rows bigint"


def ints(name: str, type_: pa.DataType | None = None) -> pa.Field:
    """A non-null column, int32 unless told otherwise."""
    return pa.field(name, type_ or pa.int32(), nullable=False)


def list_of(name: str, type_: pa.DataType | None = None) -> pa.Field:
    """A non-null column of lists without nulls, all of one length."""
    return pa.field(name, pa.list_(pa.field("element", type_ or pa.int32(), nullable=False)), nullable=False)


def lists(matrix: np.ndarray, type_: pa.DataType | None = None) -> pa.ListArray:
    """A [R, L] array as R lists of L."""
    rows, length = matrix.shape
    values = pa.array(np.ascontiguousarray(matrix).reshape(-1), type_ or pa.int32())
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * length, pa.int32()), values)


def spark_schema(schema: pa.Schema) -> str:
    """The DDL of rows on their way to `write_dataset`: the columns but row_weight, and where each row goes."""
    names = {pa.int32(): "int", pa.int64(): "bigint", pa.float32(): "float"}
    columns = [f"{BUCKET} int", f"{KEY} bigint", f"{TIE} int"]
    for field in schema:
        if field.name != "row_weight":
            is_list = pa.types.is_list(field.type)
            kind = names[field.type.value_type if is_list else field.type]
            columns.append(f"{field.name} array<{kind}>" if is_list else f"{field.name} {kind}")
    return ", ".join(columns)


def write_dataset(
    rows: DataFrame, schema: pa.Schema, list_length: dict[str, int], directory: Path, row_groups: int
) -> int:
    """Write `rows` as `row_groups` files of one row group each; the number of real rows.

    `schema` ends with row_weight float32: 1, or 0 in the filler rows (all zeros) that make row groups equal.
    `list_length` is the length of each list column. A row's file and place follow from its hash alone, so the content
    is the same for any partitioning, and each file is a random sample. A task holds one row group in memory.
    """
    directory.mkdir(parents=True)
    loose = directory.parent / f".{directory.name}-{uuid.uuid4().hex}"
    loose.mkdir()
    content = pa.schema([field for field in schema if field.name != "row_weight"])

    def gather(key: tuple[pa.Scalar, ...], table: pa.Table) -> pa.Table:
        bucket = key[0].as_py()
        ordered = table.take(
            pc.sort_indices(table, [(KEY, "ascending"), ("user_index", "ascending"), (TIE, "ascending")])
        )
        _replace(ordered.select(content.names).cast(content), loose / f"{bucket}.parquet", max(1, len(ordered)))
        return pa.table({"bucket": pa.array([bucket], pa.int32()), "rows": pa.array([len(ordered)], pa.int64())})

    try:
        counts = {row["bucket"]: row["rows"] for row in rows.groupBy(BUCKET).applyInArrow(gather, WRITTEN).collect()}
        size = max([1, *counts.values()])

        def fill(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
            for batch in batches:
                for bucket in batch.column(0).to_pylist():
                    table = pq.read_table(loose / f"{bucket}.parquet") if bucket in counts else content.empty_table()
                    _replace(_filled(table, schema, list_length, size), directory / f"part-{bucket:05d}.parquet", size)
                yield batch

        spark = rows.sparkSession
        tasks = max(1, min(row_groups, spark.sparkContext.defaultParallelism))
        spark.range(0, row_groups, 1, tasks).mapInArrow(fill, "id bigint").count()
    finally:
        shutil.rmtree(loose, ignore_errors=True)
    return sum(counts.values())


def _filled(table: pa.Table, schema: pa.Schema, list_length: dict[str, int], size: int) -> pa.Table:
    missing = size - len(table)
    filler = []
    for field in schema:
        if pa.types.is_list(field.type):
            zeros = np.zeros((missing, list_length[field.name]), dtype=np.int64)
            filler.append(lists(zeros, field.type.value_type))
        else:
            filler.append(pa.array(np.zeros(missing), field.type) if missing else pa.array([], field.type))
    real = table.append_column("row_weight", pa.array(np.ones(len(table), dtype=np.float32)))
    return pa.concat_tables([real.cast(schema), pa.Table.from_arrays(filler, names=schema.names).cast(schema)])


def _replace(table: pa.Table, path: Path, row_group_size: int) -> None:
    """Write one file of one row group; a task that Spark runs twice replaces it by the same."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(table.combine_chunks(), temporary, row_group_size=row_group_size)
    os.replace(temporary, path)
