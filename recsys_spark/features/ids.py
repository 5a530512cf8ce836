"""Dense integers for string ids: append-only, and the same for any number of partitions."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.tables.files import new_file
from recsys_spark.tables.location import spark_path

ID_COLUMNS = ("user_id", "item_id")
RANGE_ROWS = 500_000
"""Ids that one task sorts, about: fewer than that need no sample of their order and one file."""
NEVER = np.iinfo(np.int32).max
PART = re.compile(r"part-(\d+)-.*\.parquet")


def assign_dense(
    seen: DataFrame, previous: DataFrame | None, id_column: str, index: str, scratch: Path, ranges: int | None = None
) -> DataFrame:
    """Number ids densely from 1; 0 is never given.

    `seen(id_column string, arrived date, ...)` has one row an id; new ids are numbered in the order (arrived, id),
    those without a day last, and strings compare by their UTF-8 bytes. It is read up to three times, so have it
    written. `previous(id_column, index)` keeps its numbers, and new ids go on after its highest; ids of `previous` that
    are not seen this time stay. `scratch` is a folder on the file system that Spark's tasks share; it must outlive the
    returned `(id_column string, index int, ...)`, where `...` are the further columns of `seen`, null where an id was
    not seen. `ranges` is the number of tasks that sort, by default that of a shuffle. Raises OverflowError above
    2**31 - 1 ids.

    No row comes to the driver and none passes through one task: rows are sorted in ranges, each range is written as one
    file, and a row's number is its place in its file after the rows of the files before, of which only the counts
    (in the files' footers) are read.
    """
    spark = seen.sparkSession
    carried = [name for name in seen.columns if name not in (id_column, "arrived")]
    base, new = 0, seen
    if previous is not None:
        base = previous.agg(F.max(index)).first()[0] or 0  # type: ignore[index]
        new = seen.join(previous.select(id_column), on=id_column, how="left_anti")
    order = (F.col("arrived").asc_nulls_last(), F.col(id_column).asc())
    ranged = new.repartitionByRange(ranges, *order) if ranges else new.repartitionByRange(*order)
    ordered = scratch / f"sorted-{uuid.uuid4().hex}"
    ranged.sortWithinPartitions(*order).write.parquet(spark_path(ordered))
    starts = _starts(ordered, base)
    rows = spark.read.schema(new.schema).parquet(spark_path(ordered))
    part = F.regexp_extract(F.col("_metadata.file_name"), PART.pattern, 1).cast("int")
    place = F.array(*[F.lit(start).cast("bigint") for start in starts])[part] + F.col("_metadata.row_index") + 1
    numbered = rows.select(id_column, place.cast("int").alias(index), *carried)
    if previous is None:
        return numbered
    kept = previous.select(id_column, index)
    if carried:
        kept = kept.join(seen.select(id_column, *carried), on=id_column, how="left")
    return kept.unionByName(numbered)


def ranges_for(rows: int) -> int:
    """Ranges in which so many ids are sorted."""
    return max(1, -(-rows // RANGE_ROWS))


def _starts(ordered: Path, base: int) -> list[int]:
    """Rows before each file's first one, by the number of the task that wrote it, which is the place of its range."""
    counts: dict[int, int] = {}
    for path in ordered.glob("*.parquet"):
        named = PART.fullmatch(path.name)
        assert named, f"{path}: Spark names its files part-NNNNN-..."
        counts[int(named[1])] = pq.read_metadata(path).num_rows
    starts = []
    for part in range(max(counts, default=0) + 1):
        starts.append(base)
        base += counts.get(part, 0)
    if base >= 2**31:
        raise OverflowError(f"{base} ids do not fit 32 bits")
    return starts


def write_first_days(
    spark: SparkSession, buckets: Sequence[Sequence[str]], as_of: datetime | None, directory: Path
) -> dict[str, int]:
    """The first days of every user and item among the events before `as_of` (UTC, exclusive), in one pass.

    `buckets` are the files of clean events by user bucket (`events.layout.bucket_files`), one task each. Writes folders
    user_id and item_id below `directory` with rows `(<name> string, arrived date, first_seen date)`: the days of the
    first arrival and of the first event. A user is in one bucket and so has one row; an item has one in each bucket
    that knows it. Returns the rows of both, and under `events` the events before `as_of`.
    """
    for name in ID_COLUMNS:
        (directory / name).mkdir(parents=True)
    if not buckets:
        return dict.fromkeys((*ID_COLUMNS, "events"), 0)

    def scan(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for bucket in batch.column(0).to_pylist():
                counts = _bucket_first_days(buckets[bucket], as_of, directory, f"bucket-{bucket:05d}.parquet")
                yield pa.RecordBatch.from_pydict({name: [count] for name, count in counts.items()})

    counts = spark.range(0, len(buckets), 1, len(buckets)).mapInArrow(
        scan, ", ".join(f"{name} bigint" for name in (*ID_COLUMNS, "events"))
    )
    return {
        name: int(total) for name, total in counts.groupBy().sum().toDF(*counts.columns).collect()[0].asDict().items()
    }


def _bucket_first_days(files: Sequence[str], as_of: datetime | None, directory: Path, name: str) -> dict[str, int]:
    """The first days of one bucket's users and items; returns their counts and that of the events."""
    # The run's date ends at midnight, so days tell; a time within a day needs the events' times too.
    at_midnight = as_of is None or as_of.time() == datetime.min.time()
    columns = [*ID_COLUMNS, "event_date", "arrival_date", *([] if at_midnight else ["event_time"])]
    tables = [
        pq.ParquetFile(file, read_dictionary=list(ID_COLUMNS)).read(columns=columns, use_threads=False)
        for file in files
    ]
    events = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    days = {name: _days(events[name]) for name in ("event_date", "arrival_date")}
    known = np.ones(events.num_rows, dtype=bool)
    if as_of is not None and at_midnight:
        known = days["event_date"] < (as_of.date() - datetime(1970, 1, 1).date()).days
    elif as_of is not None:
        times = events["event_time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
        known = times < np.datetime64(as_of, "us").astype("int64")
    counts = {}
    for column in ID_COLUMNS:
        ids = events[column].combine_chunks()
        ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
        codes = ids.indices.to_numpy(zero_copy_only=False)
        first = {name: np.full(len(ids.dictionary), NEVER, dtype=np.int32) for name in days}
        for day, earliest in first.items():
            np.minimum.at(earliest, codes[known], days[day][known])
        met = np.flatnonzero(first["event_date"] != NEVER)
        rows = pa.table(
            {
                column: ids.dictionary.take(pa.array(met)),
                "arrived": _dates(first["arrival_date"][met]),
                "first_seen": _dates(first["event_date"][met]),
            }
        )
        # A task may run twice, even at once: each attempt writes the same rows and puts them in place whole.
        with new_file(directory / column / name) as place:
            pq.write_table(rows, place)
        counts[column] = rows.num_rows
    return {**counts, "events": int(known.sum())}


def _days(dates: pa.ChunkedArray) -> np.ndarray:
    """Days since 1970 [rows], NEVER where null."""
    days: np.ndarray = pc.fill_null(dates.cast(pa.int32()), int(NEVER)).to_numpy()
    return days


def _dates(days: np.ndarray) -> pa.Array:
    """The inverse of `_days`."""
    return pa.array(days, mask=days == NEVER, type=pa.int32()).cast(pa.date32())
