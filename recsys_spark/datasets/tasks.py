"""Work that Spark tasks do on files with Arrow and numpy: what goes through Spark is what a task tells, not rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

TASK_BYTES = 64 << 20
"""Parts smaller than this together may be done by one task."""
TASKS_A_CORE = 8
"""As long as every core has so many: then one that takes longer than others keeps few waiting."""


@dataclass(frozen=True)
class Told:
    """What a part of the work tells of its outputs; what the parts tell of one (name, number) is put together."""

    name: str
    number: int
    rows: int
    first: int | None = None
    """Earliest time, of which the least is kept."""
    last: int | None = None
    """Latest time, of which the greatest is kept."""
    heaviest: float | None = None
    """Highest weight."""
    fingerprint: int = 0
    """Put together by exclusive or, so that the order of the parts does not matter."""


Totals = dict[tuple[str, int], Row]
"""What tasks told, by name and number."""
TOLD = "name string, number int, rows bigint, first bigint, last bigint, heaviest double, fingerprint bigint"


def run_tasks(
    spark: SparkSession, work: Callable[[int], Iterable[Told]], parts: int, tasks: int | None = None
) -> Totals:
    """Run work(0) .. work(parts - 1) in Spark tasks; what they tell, put together by (name, number).

    Spark may run a part twice: it has to write the same files again, by `tables.files.new_file`.
    """
    names = [field.name for field in fields(Told)]

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for part in batch.column(0).to_pylist():
                rows = [dict(zip(names, astuple(told), strict=True)) for told in work(part)]
                if rows:
                    yield pa.RecordBatch.from_pylist(rows, schema=schema)

    kinds = {"string": pa.string(), "int": pa.int32(), "bigint": pa.int64(), "double": pa.float64()}
    schema = pa.schema([pa.field(*_typed(column, kinds)) for column in TOLD.split(", ")])
    told = spark.range(0, parts, 1, max(1, tasks or parts)).mapInArrow(run, TOLD)
    together = told.groupBy("name", "number").agg(
        F.sum("rows").alias("rows"),
        F.min("first").alias("first"),
        F.max("last").alias("last"),
        F.max("heaviest").alias("heaviest"),
        F.bit_xor("fingerprint").alias("fingerprint"),
    )
    return {(row["name"], row["number"]): row for row in together.collect()}


def _typed(column: str, kinds: dict[str, pa.DataType]) -> tuple[str, pa.DataType]:
    name, kind = column.split()
    return name, kinds[kind]


def tasks_for(spark: SparkSession, parts: int, size: int = 0) -> int:
    """How many tasks to do parts of `size` bytes in: many small parts share one."""
    cores = int(spark.sparkContext.defaultParallelism)
    return max(1, min(parts, max(TASKS_A_CORE * cores, -(-size // TASK_BYTES))))


def read_columns(directory: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of a flat directory of Parquet files, in the order of the files' names."""
    return pa.concat_tables(
        [pq.ParquetFile(file).read(list(columns), use_threads=False) for file in sorted(directory.glob("*.parquet"))]
    )
