"""The files behind a source, and how those of one shape are read by one scan."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sources import Files
from recsys_spark.errors import UserError

Check = Callable[[DataFrame, str], None]
LISTING = ("pathglobfilter", "recursivefilelookup", "modifiedbefore", "modifiedafter")
PLAIN_IN_URI = frozenset("/_-!.~'()*,;:$&+=@")
"""Beside letters and digits, the ASCII characters that Java's URIs leave as they are."""
DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
EMPTY = "the file is empty"


@dataclass(frozen=True)
class RawFile:
    """A file of a source, or a copy of it."""

    path: str
    """Where it is read."""
    name: str
    """What FILE says: where it was found first."""
    arrival: date | None = None
    """The day on which it arrived, if anything tells."""
    long_lines: bool = False
    """Has it lines that are kept away from the parser (`broken.check_files` finds them)."""


@dataclass(frozen=True)
class Broken:
    """A file that is quarantined as a whole."""

    name: str
    """As of RawFile."""
    arrival: date | None
    reason: str
    """Why, in one line."""


class NothingReadable(UserError):  # noqa: N818  (errors here are named by what happened)
    """Of the files that were to be read, none can be."""

    def __init__(self, message: str, broken: tuple[Broken, ...]) -> None:
        super().__init__(message)
        self.broken = broken
        """All of them."""


@dataclass(frozen=True)
class Raw:
    """What a source holds."""

    frame: DataFrame
    """The rows, with their own columns and those of `events.rows.INTERNAL`."""
    broken: tuple[Broken, ...] = ()
    """The files that are not among the rows."""
    text: tuple[str, ...] | None = None
    """Where RAW is the JSON of certain columns in every row: those columns, so that it may be made of few rows only."""


def list_files(spark: SparkSession, files: Files, where: str) -> list[str]:
    """The files behind the configured paths, as URIs without escapes. Raises UserError where there is none."""
    listing = {key: value for key, value in files.options.items() if key.lower() in LISTING}
    try:
        found = [unquote(uri) for uri in spark.read.options(**listing).text(list(files.paths)).inputFiles()]
    except PySparkException as error:
        raise UserError(f"{where}: {spark_reason(error)}") from None
    if not found:
        raise UserError(f"{where}: there is no file; check the path")
    return sorted(found)


def source_files(spark: SparkSession, files: Files, where: str) -> list[RawFile]:
    """The files of a csv, json, parquet or package source, by name, each with its arrival where that is configured.

    Raises UserError where there is no file, or a path does not tell a date.
    """
    if files.format == "package":
        return [RawFile(str(package_file(files, where)), files.paths[0])]
    paths = list_files(spark, files, where)
    if files.arrival is None:
        return [RawFile(path, file_name(path)) for path in paths]
    if files.arrival.modified:
        times = _modified(spark, files)
        return [RawFile(path, file_name(path), times[file_name(path)]) for path in paths]
    assert files.arrival.path_pattern is not None, "config asks for one of both"
    pattern = re.compile(files.arrival.path_pattern)
    return [RawFile(path, file_name(path), _date_in(path, pattern, where)) for path in paths]


def package_file(files: Files, where: str) -> Path:
    """The file inside an installed Python package that `package/name` means. Raises UserError where there is none."""
    if len(files.paths) != 1:
        raise UserError(f"{where}: format package takes one file; list several sources instead")
    package, _, name = files.paths[0].partition("/")
    try:
        file = Path(str(importlib.resources.files(package).joinpath(name)))
    except ModuleNotFoundError:
        raise UserError(f"{where}: the Python package {package} is not installed; pip install it") from None
    if not file.is_file():
        raise UserError(f"{where}: the package {package} has no file {name}")
    return file


def package_format(path: str) -> Literal["csv", "json", "parquet"]:
    """The format of a package's file, by its name."""
    formats: dict[str, Literal["json", "parquet"]] = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}
    return formats.get(Path(path).suffix, "csv")


def file_name(path: str) -> str:
    """The path as FILE says it, and Spark's `_metadata.file_path` where it is no local one: escaped as in URIs."""
    local = re.sub(r"^file:/+", "/", path)
    plain = (
        char if char.isalnum() or ord(char) > 127 or char in PLAIN_IN_URI else quote(char, safe="") for char in local
    )
    return "".join(plain)


def java_message(error: Py4JJavaError) -> str:
    """What the deepest cause says, on one line."""
    cause = error.java_exception
    while cause.getCause() is not None:
        cause = cause.getCause()
    return " ".join(f"{cause.getClass().getSimpleName()}: {cause.getMessage()}".split())[:300]


def _modified(spark: SparkSession, files: Files) -> dict[str, date]:
    """The day on which each file was last changed, by its name; the files' content is not read."""
    listing = {key: value for key, value in files.options.items() if key.lower() in LISTING}
    frame = spark.read.format("binaryFile").options(**listing).load(list(files.paths))
    seconds = F.col("modificationTime").cast("double").alias("seconds")
    rows = frame.select(F.col("_metadata.file_path").alias("path"), seconds).collect()
    return {file_name(unquote(row["path"])): datetime.fromtimestamp(row["seconds"], UTC).date() for row in rows}


def _date_in(path: str, pattern: re.Pattern[str], where: str) -> date:
    found = pattern.search(path)
    day = DATE.fullmatch((found and found[1]) or "")
    try:
        return date(*(int(part) for part in day.groups()))  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        said = "tells no date" if found is None else f"says {found[1]!r}, which is no date such as 2024-01-05,"
        raise UserError(
            f"{where}: {path} {said} by arrival.path_pattern {pattern.pattern!r}; mend one of both"
        ) from None


def spark_reason(error: PySparkException) -> str:
    """Why Spark cannot read a source, and what to do."""
    condition = error.getCondition() or ""
    if condition == "PATH_NOT_FOUND":
        return "there is no such file; check the path"
    if condition.startswith("TABLE_OR_VIEW_NOT_FOUND"):
        return "there is no such table; check the name and the metastore"
    if condition.startswith("UNABLE_TO_INFER_SCHEMA"):
        return "there is no file in it; check the path"
    return f"cannot be read ({' '.join(str(error).split('JVM stacktrace')[0].split())[:300]})"
