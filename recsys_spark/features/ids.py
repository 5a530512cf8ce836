"""Dense integers for string ids: append-only, and the same for any number of partitions."""

from __future__ import annotations

import uuid
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.tables.location import spark_path


def assign_dense(
    first_seen: DataFrame, previous: DataFrame | None, id_column: str, index: str, scratch: Path
) -> DataFrame:
    """Number ids densely from 1; 0 is never given.

    `first_seen(id_column string, first_seen date)` has one row an id; ids are new in the order (first_seen, id), those
    without a day last.
    `previous(id_column, index)` keeps its numbers, and new ids go on after its highest. `scratch` is a folder on the
    file system that Spark's tasks share; it must outlive the returned `(id_column string, index int, first_seen date)`,
    where first_seen is null for an id of `previous` that has no row this time.

    No row comes to the driver and none passes through one task: rows are sorted in ranges, each range is written as one
    file, and a row's number is its place in its file after the rows of the files before, of which only the counts
    (one a file) are collected.
    """
    spark = first_seen.sparkSession
    seen, ordered = (spark_path(scratch / f"{name}-{uuid.uuid4().hex}") for name in ("seen", "sorted"))
    # Written once: it is read for the ranges (which are drawn from a sample), for the rows, and beside `previous`.
    first_seen.select(id_column, "first_seen").write.parquet(seen)
    schema = first_seen.select(id_column, "first_seen").schema
    all_seen = spark.read.schema(schema).parquet(seen)
    base, new = 0, all_seen
    if previous is not None:
        base = previous.agg(F.max(index)).first()[0] or 0  # type: ignore[index]
        new = all_seen.join(previous.select(id_column), on=id_column, how="left_anti")
    order = (F.col("first_seen").asc_nulls_last(), F.col(id_column).asc())
    ranges = new.repartitionByRange(*order).sortWithinPartitions(*order)
    ranges.write.parquet(ordered)
    rows = spark.read.schema(schema).parquet(ordered)
    rows = rows.select("*", F.col("_metadata.file_name").alias("_file"), F.col("_metadata.row_index").alias("_row"))
    offsets, at = [], base
    # Files are named by the number of the task that wrote them, which is the place of its range.
    for file, count in sorted((row["_file"], row["count"]) for row in rows.groupBy("_file").count().collect()):
        offsets.append((file, at))
        at += count
    if at >= 2**31:
        raise OverflowError(f"{at} ids do not fit a 32-bit {index}")
    starts = spark.createDataFrame(offsets, "_file string, _start bigint")
    numbered = rows.join(F.broadcast(starts), on="_file", how="inner").select(
        id_column, (F.col("_start") + F.col("_row") + 1).cast("int").alias(index), "first_seen"
    )
    if previous is None:
        return numbered
    kept = previous.join(all_seen, on=id_column, how="left").select(id_column, index, "first_seen")
    return kept.unionByName(numbered)
