"""Sources: files and tables of any shop as raw rows, before anything is judged."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sections import Files
from recsys_spark.errors import UserError
from recsys_spark.events.csv_files import Check, read_csv
from recsys_spark.events.json_files import read_json
from recsys_spark.events.rows import (
    FILE,
    ORDER,
    own_columns,
    refuse_internal,
    require_columns,
    with_file_position,
    with_row_text,
)

NANOSECONDS = "spark.sql.legacy.parquet.nanosAsLong"
"""Spark refuses Parquet timestamps in nanoseconds, which pandas writes, unless told to read them as bigint."""

BROKEN_FILE = re.compile(r"\[FAILED_READ_FILE[^]]*\] (?P<message>Encountered error while reading file (?P<file>\S+).*)")


def read_source(
    spark: SparkSession, files: Files, index: int = 0, key: str = "source", check: Check | None = None
) -> DataFrame:
    """The rows of a source or catalogue: its own columns and those of `events.rows.INTERNAL`.

    csv and json: every own column is a string. parquet, table and package: columns as they are. `key` is the name in
    the configuration that errors are told by; `check(frame, where)` may refuse each group of files of one shape.
    Raises UserError where a file, package, table or mapped column is missing, or nothing is in it.
    """
    where = f"{key} {', '.join(files.paths)}"
    try:
        return _read(spark, files, index, where, check or (lambda frame, label: None))
    except PySparkException as error:
        raise UserError(f"{where}: {_reason(error)}") from None
    except Py4JJavaError as error:
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        message = " ".join(str(cause.getMessage()).split())[:300]
        raise UserError(f"{where}: cannot be read as {files.format} ({message}); check path and format") from None


@contextmanager
def file_errors() -> Iterator[None]:
    """Around an action on rows that were read here: a file that is broken inside is a UserError that names it.

    Spark reads a truncated archive or a second, broken Parquet file only when rows are asked for.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        trace = str(error)
        found = BROKEN_FILE.search(trace)
        if found is None:
            raise
        # The last cause stands deepest: "Caused by: java.io.EOFException: Unexpected end of input stream".
        causes = [line.strip() for line in trace.splitlines() if line.startswith("Caused by: ")]
        cause = causes[-1].removeprefix("Caused by: ") if causes else found["message"]
        name = unquote(found["file"].rstrip(".")).replace("file:///", "/")
        raise UserError(f"{name}: cannot be read ({cause[:300]}); replace it or take it out of the path") from None


def _read(spark: SparkSession, files: Files, index: int, where: str, check: Check) -> DataFrame:
    if files.format == "package":
        return _read_package(spark, files, index, where, check)
    if files.format == "json":
        return read_json(spark, files, where, index, check)
    if files.format == "csv":
        return with_row_text(read_csv(spark, files, where, check), index)
    frame = _read_table(spark, files, where) if files.format == "table" else _read_parquet(spark, files, where)
    require_columns(own_columns(frame), files, where)
    check(frame, where)
    return with_row_text(frame, index)


def _read_parquet(spark: SparkSession, files: Files, where: str) -> DataFrame:
    spark.conf.set(NANOSECONDS, "true")
    frame = spark.read.options(**files.options).parquet(*files.paths)
    refuse_internal(frame.columns, where)
    return with_file_position(frame, indexed=True)


def _read_table(spark: SparkSession, files: Files, where: str) -> DataFrame:
    frames = []
    for name in files.paths:
        frame = spark.read.options(**files.options).table(name)
        refuse_internal(frame.columns, where)
        position = (F.lit(name).alias(FILE), F.monotonically_increasing_id().alias(ORDER))
        frames.append(frame.select("*", *position))
    united = frames[0]
    for frame in frames[1:]:
        united = united.unionByName(frame, allowMissingColumns=True)
    return united


def _read_package(spark: SparkSession, files: Files, index: int, where: str, check: Check) -> DataFrame:
    """A file that an installed Python package brings; FILE names it within the package, not on this machine."""
    if len(files.paths) != 1:
        raise UserError(f"{where}: format package takes one file; list several sources instead")
    package, _, name = files.paths[0].partition("/")
    try:
        file = Path(str(importlib.resources.files(package).joinpath(name)))
    except ModuleNotFoundError:
        raise UserError(f"{where}: the Python package {package} is not installed; pip install it") from None
    if not file.is_file():
        raise UserError(f"{where}: the package {package} has no file {name}")
    formats = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}
    format_ = formats.get(file.suffix, "csv")
    inside = files.model_copy(update={"format": format_, "path": str(file)})
    frame = _read(spark, inside, index, where, check)
    return frame.withColumn(FILE, F.lit(files.paths[0]))


def _reason(error: PySparkException) -> str:
    condition = error.getCondition() or ""
    if condition == "PATH_NOT_FOUND":
        return "there is no such file; check the path"
    if condition.startswith("TABLE_OR_VIEW_NOT_FOUND"):
        return "there is no such table; check the name and the metastore"
    if condition.startswith("UNABLE_TO_INFER_SCHEMA"):
        return "there is no file in it; check the path"
    return f"cannot be read ({' '.join(str(error).split('JVM stacktrace')[0].split())[:300]})"
