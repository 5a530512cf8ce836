"""Sources: files and tables of any shop as raw rows, before anything is judged."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, TimestampNTZType, TimestampType

from recsys_spark.config.sources import Files, Join, Source
from recsys_spark.errors import UserError
from recsys_spark.events.broken import BrokenFile, broken_file, broken_files, check_files, file_errors
from recsys_spark.events.csv_files import read_csv
from recsys_spark.events.jdbc import jdbc_errors, read_jdbc
from recsys_spark.events.joins import with_joins
from recsys_spark.events.json_files import read_json
from recsys_spark.events.parquet_files import read_parquet
from recsys_spark.events.raw_files import (
    Broken,
    Check,
    Raw,
    RawFile,
    java_message,
    package_format,
    source_files,
    spark_reason,
)
from recsys_spark.events.rows import (
    ARRIVAL,
    FILE,
    ORDER,
    find_column,
    own_columns,
    quoted,
    refuse_internal,
    require_columns,
    united,
    with_row_text,
    with_text_checks,
)
from recsys_spark.events.scans import joined_columns

__all__ = [
    "Broken",
    "BrokenFile",
    "Check",
    "Raw",
    "RawFile",
    "broken_files",
    "check_files",
    "file_errors",
    "read_source",
    "source_files",
]


def read_source(
    spark: SparkSession,
    files: Files,
    index: int = 0,
    key: str = "source",
    check: Check | None = None,
    only: Sequence[RawFile] | None = None,
    listed: Sequence[RawFile] | None = None,
) -> Raw:
    """The rows of a source or catalogue with its own columns and those of `events.rows.INTERNAL`, and what is broken.

    csv and json: every own column is a string. parquet, table, jdbc and package: columns as they are. `key` is the name
    in the configuration that errors are told by; `check(frame, where)` may refuse each group of files of one shape.
    With `only`, exactly those files are read, which may be copies; `listed` is what `source_files` gave, where it is
    known. A file that cannot be read, or lacks what the others
    have, is among the broken; what is broken further inside shows in actions (`file_errors`). Raises BrokenFile where
    such a file is met already, and UserError where a package, table or mapped column is missing, or nothing is left.
    """
    where = f"{key} {', '.join(files.paths)}"
    check = check or (lambda frame, label: None)
    try:
        raw = _read(spark, files, index, where, check, only, listed)
        frame = raw.frame
        if isinstance(files, Source) and files.join:
            frame = with_joins(frame, files, where, partial(_read_join, spark))
            require_columns(own_columns(frame), files, where)
            check(frame, where)
        return Raw(with_text_checks(frame, files), raw.broken, raw.text)
    except (PySparkException, Py4JJavaError) as error:
        found = broken_file(error)
        if found is not None:
            raise found from None
        if isinstance(error, PySparkException):
            raise UserError(f"{where}: {spark_reason(error)}") from None
        message = java_message(error)
        raise UserError(f"{where}: cannot be read as {files.format} ({message}); check path and format") from None


def _read(
    spark: SparkSession,
    files: Files,
    index: int,
    where: str,
    check: Check,
    only: Sequence[RawFile] | None,
    listed: Sequence[RawFile] | None = None,
) -> Raw:
    if files.format in ("table", "jdbc"):
        frame = read_jdbc(spark, files, where) if files.format == "jdbc" else _read_table(spark, files, where)
        available = own_columns(frame)
        require_columns([*available, *joined_columns(files)], files, where)
        if not joined_columns(files):
            check(frame, where)
        return Raw(with_row_text(_with_arrival_column(frame, files, where), index), text=tuple(available))
    known = listed if only is None else only
    raw_files = source_files(spark, files, where) if known is None else list(known)
    if not raw_files:
        raise UserError(f"{where}: there is no file to read")
    if files.format == "package":
        return _read_package(spark, files, index, where, check, raw_files)
    readers = {"csv": read_csv, "json": read_json, "parquet": read_parquet}
    return readers[files.format](spark, files, where, index, check, raw_files, only is None)


def _read_join(spark: SparkSession, join: Join, where: str) -> Raw:
    if join.format == "jdbc":
        with jdbc_errors(join, where):
            return _read(spark, join, 0, where, lambda frame, label: None, None)
    return _read(spark, join, 0, where, lambda frame, label: None, None)


def _read_table(spark: SparkSession, files: Files, where: str) -> DataFrame:
    frames = []
    for name in files.paths:
        frame = spark.read.options(**files.options).table(name)
        refuse_internal(frame.columns, where)
        position = (F.lit(name).alias(FILE), F.monotonically_increasing_id().alias(ORDER))
        frames.append(frame.select("*", *position))
    return united(frames)


def _with_arrival_column(frame: DataFrame, files: Files, where: str) -> DataFrame:
    """Add ARRIVAL from the configured column."""
    if files.arrival is None:
        return frame.withColumn(ARRIVAL, F.lit(None).cast("date"))
    assert files.arrival.column is not None, "config asks for it"
    name = find_column(own_columns(frame), files.arrival.column)
    if name is None:
        has = ", ".join(own_columns(frame))
        raise UserError(f"{where}: no column {files.arrival.column!r} (arrival.column); the table has {has}")
    dated = isinstance(frame.schema[name].dataType, (DateType, TimestampType, TimestampNTZType))
    column = quoted(name) if dated else F.trim(quoted(name).cast("string"))
    return frame.withColumn(ARRIVAL, column.try_cast("date"))


def _read_package(
    spark: SparkSession, files: Files, index: int, where: str, check: Check, raw_files: Sequence[RawFile]
) -> Raw:
    """A file that an installed Python package brings; FILE names it within the package, not on this machine."""
    path = raw_files[0].path
    plain = files.model_copy(update={"format": package_format(path), "path": path})
    raw = _read(spark, plain, index, where, check, None)
    return Raw(raw.frame.withColumn(FILE, F.lit(raw_files[0].name)), raw.broken, raw.text)
