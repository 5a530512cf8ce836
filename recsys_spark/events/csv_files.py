"""CSV files, read by what each file's own header line says."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark.config.sections import Files
from recsys_spark.errors import UserError
from recsys_spark.events.rows import (
    CORRUPT,
    FILE,
    ORDER,
    own_columns,
    quoted,
    refuse_internal,
    require_columns,
    with_file_position,
)

OURS = {"mode", "inferschema", "enforceschema", "columnnameofcorruptrecord", "columnpruning", "header"}
"""Reader options that are decided here: every row is kept, every column is text."""
DEFAULTS = {"escape": '"'}
"""Where the user gives none: a quote inside quotes is doubled (RFC 4180); Spark would expect a backslash."""
LISTING = ("pathglobfilter", "recursivefilelookup", "modifiedbefore", "modifiedafter")
PATTERN = re.compile(r"[\[\]{}*?\\]")
"""What Hadoop takes for parts of a pattern in a path."""
MAX_HEADER_LINES = 100
Check = Callable[[DataFrame, str], None]


def list_files(spark: SparkSession, files: Files, where: str) -> list[str]:
    """The files behind the configured paths, as URIs. Raises UserError where there is none."""
    listing = {key: value for key, value in files.options.items() if key.lower() in LISTING}
    found = [unquote(uri) for uri in spark.read.options(**listing).text(list(files.paths)).inputFiles()]
    if not found:
        raise UserError(f"{where}: there is no file; check the path")
    return sorted(found)


def read_csv(spark: SparkSession, files: Files, where: str, check: Check) -> DataFrame:
    """All rows as strings, with FILE, ORDER and CORRUPT.

    A schema is applied by position, so files whose columns stand in another order would swap silently: files are
    grouped by their header line (letter case and blanks aside), each group is read by its own, and the groups are
    united by name. Folders such as `day=2024-01-01` below a configured path add columns. Raises UserError where a group
    lacks a mapped column, or `check` says so.
    """
    options = {**DEFAULTS, **{key.lower(): value for key, value in files.options.items()}}
    paths = list_files(spark, files, where)
    roots = [options["basepath"]] if "basepath" in options else list(files.paths)
    bases = _folder_bases(spark, paths, roots)
    groups: dict[tuple[str | None, tuple[str, ...]], list[str]] = {}
    spelling: dict[str, str] = {}
    for path, base, header in zip(paths, bases, _headers(spark, paths, options, where), strict=True):
        if header:
            key = (base, tuple(name.lower() for name in header))
            groups.setdefault(key, []).append(path)
            for name in header:
                spelling.setdefault(name.lower(), name)
    if not groups:
        raise UserError(f"{where}: every file is empty")
    frames = []
    patterns = any(PATTERN.search(path) for path in files.paths)
    for (base, names), members in groups.items():
        # Below plain paths Spark finds by itself what folder names add; below patterns and for files it is told.
        as_configured = len(groups) == 1 and (base is None or not patterns)
        from_ = list(files.paths) if as_configured else [_escaped(path) for path in members]
        label = where if len(groups) == 1 else f"{where} ({members[0]})"
        spelled = [spelling[name] for name in names]
        refuse_internal(spelled, label)
        below = {} if as_configured or base is None else {"basepath": base}
        frame = _read_group(spark, from_, spelled, {**options, **below})
        require_columns(own_columns(frame), files, label)
        check(frame, label)
        frames.append(frame)
    return reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), frames)


def has_header(options: Mapping[str, str]) -> bool:
    """Does the first line of each file name its columns."""
    return str(options.get("header", "false")).lower() == "true"


def _folder_bases(spark: SparkSession, paths: list[str], roots: list[str]) -> list[str | None]:
    """For each file, the folder above its first folder `name=value` below the root that it is under, or None."""
    jvm: Any = spark._jvm
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()
    tops = []
    for root in roots:
        plain, *pattern = PATTERN.split(root, maxsplit=1)
        location = jvm.org.apache.hadoop.fs.Path((plain[: plain.rfind("/") + 1] or ".") if pattern else root)
        qualified = location.getFileSystem(hadoop).makeQualified(location)
        tops.append(str(qualified.toString()).replace("file:///", "file:/"))

    def base(path: str) -> str | None:
        plain = path.replace("file:///", "file:/")
        top = max((top for top in tops if plain.startswith(f"{top.rstrip('/')}/")), key=len, default=plain)
        folders = plain[len(top) :].strip("/").split("/")[:-1]
        first = next((place for place, folder in enumerate(folders) if "=" in folder), None)
        return None if first is None else "/".join([top.rstrip("/"), *folders[:first]])

    return [base(path) for path in paths]


def _escaped(path: str) -> str:
    """The path as a pattern that stands for itself alone."""
    return PATTERN.sub(r"\\\g<0>", path)


def _read_group(spark: SparkSession, paths: list[str], columns: list[str], options: Mapping[str, str]) -> DataFrame:
    schema = StructType([StructField(name, StringType()) for name in [*columns, CORRUPT]])
    ours = {
        "header": str(has_header(options)).lower(),
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": CORRUPT,
        # With pruning on, a row's fields are not counted, and one with too many or too few passes for a good one.
        "columnPruning": "false",
    }
    theirs = {key: value for key, value in options.items() if key not in OURS}
    frame = with_file_position(spark.read.schema(schema).options(**theirs, **ours).csv(paths))
    known = {field.name for field in schema}
    return frame.select(
        *[
            quoted(name) if name in known or name in (FILE, ORDER) else quoted(name).cast("string").alias(name)
            for name in frame.columns
        ]
    )


def _headers(spark: SparkSession, paths: list[str], options: Mapping[str, str], where: str) -> list[list[str] | None]:
    """Each file's column names in the file's order; None for an empty file."""

    def header(path: str) -> list[str] | None:
        try:
            fields = _first_record(spark, path, options)
        except csv.Error as error:
            raise UserError(f"{where}: the header of {path} cannot be read ({error}); check options") from None
        return fields and _column_names(fields, has_header(options))

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(header, paths))


def _column_names(fields: list[str], named: bool) -> list[str]:
    """Trimmed names; a column without a name, or with one that was used already, is named by its place."""
    names: list[str] = []
    for place, field in enumerate(fields):
        name = field.strip() if named else ""
        taken = not name or name.lower() in {other.lower() for other in names}
        names.append(f"_c{place}" if taken else name)
    return names


def _first_record(spark: SparkSession, path: str, options: Mapping[str, str]) -> list[str] | None:
    """The fields of the first line that is neither blank nor a comment."""
    quote, escape = options.get("quote", '"'), options["escape"]
    separator = options.get("sep", options.get("delimiter", ",")).replace("\\t", "\t")
    many_lines = str(options.get("multiline", "false")).lower() == "true"
    comment = options.get("comment", "")
    encoding = options.get("encoding", options.get("charset", "UTF-8"))
    text = ""
    for line in _first_lines(spark, path, encoding):
        if not text and (not line.strip() or (comment and line.startswith(comment))):
            continue
        text = f"{text}\n{line}" if text else line
        if not (many_lines and quote and text.count(quote) % 2):
            break
    if not text:
        return None
    if len(separator) != 1:
        return text.split(separator)
    doubled = escape == quote or not escape
    dialect: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    return next(csv.reader([text], delimiter=separator, escapechar=None if doubled else escape, **dialect))


def _first_lines(spark: SparkSession, path: str, encoding: str) -> Iterator[str]:
    """Up to MAX_HEADER_LINES lines of a file on any file system that Spark knows, decompressed."""
    jvm: Any = spark._jvm
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()
    location = jvm.org.apache.hadoop.fs.Path(path)
    stream = location.getFileSystem(hadoop).open(location)
    try:
        codec = jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(hadoop).getCodec(location)
        content = codec.createInputStream(stream) if codec is not None else stream
        reader = jvm.java.io.BufferedReader(jvm.java.io.InputStreamReader(content, encoding))
        for place in range(MAX_HEADER_LINES):
            line = reader.readLine()
            if line is None:
                return
            yield line if place else line.removeprefix("\ufeff")
    finally:
        stream.close()
