"""CSV files, read by what each file's own header line says."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark.config.sources import Files
from recsys_spark.events.raw_files import EMPTY, Broken, Check, NothingReadable, Raw, RawFile, java_message
from recsys_spark.events.rows import (
    CORRUPT,
    FILE,
    MAX_LINE,
    ORDER,
    quoted,
    refuse_internal,
    with_file_position,
    with_row_text,
)
from recsys_spark.events.scans import Scan, rows_of_scans, scans, with_arrival

OURS = {"mode", "inferschema", "enforceschema", "columnnameofcorruptrecord", "columnpruning", "header"}
"""Reader options that are decided here: every row is kept, every column is text."""
DEFAULTS = {"escape": '"'}
"""Where the user gives none: a quote inside quotes is doubled (RFC 4180); Spark would expect a backslash."""
MAX_HEADER_LINES = 100


def read_csv(
    spark: SparkSession, files: Files, where: str, index: int, check: Check, raw_files: Sequence[RawFile], whole: bool
) -> Raw:
    """All rows as strings, with the internal columns; files that are empty or have no readable header are broken.

    A schema is applied by position, so files whose columns stand in another order would swap silently: files are
    grouped by their header line (blanks aside), each group is read by its own, and the groups are united by name.
    Folders such as `day=2024-01-01` below a configured path add columns. Raises UserError as `rows_of_scans` does.
    """
    options = {**DEFAULTS, **{key.lower(): value for key, value in files.options.items()}}
    found = _headers(spark, raw_files, options)
    broken = tuple(header for header in found if isinstance(header, Broken))
    fit = [(file, header) for file, header in zip(raw_files, found, strict=True) if not isinstance(header, Broken)]
    if not fit:
        others = [file for file in broken if file.reason != EMPTY]
        said = f"{others[0].name}: {others[0].reason}" if others else "every file is empty"
        raise NothingReadable(f"{where}: {said}", broken)
    members, headers = [file for file, _ in fit], [(header, file.long_lines) for file, header in fit]

    def read(scan: Scan) -> DataFrame:
        names, long_lines = scan.shape
        theirs = {**options, "basepath": scan.base} if scan.base else options
        refuse_internal(names, scan.members[0].name)
        read_ = _read_line_by_line if long_lines else _read_group
        frame = read_(spark, list(scan.paths), list(names), theirs)
        return with_row_text(with_arrival(frame, files, scan.members), index)

    grouped = scans(spark, files, members, headers, whole and not any(file.reason != EMPTY for file in broken))
    raw = rows_of_scans(grouped, files, where, check, whole, read)
    return Raw(raw.frame, broken + raw.broken, raw.text)


def has_header(options: Mapping[str, str]) -> bool:
    """Does the first line of each file name its columns."""
    return str(options.get("header", "false")).lower() == "true"


def _read_group(spark: SparkSession, paths: list[str], columns: list[str], options: Mapping[str, str]) -> DataFrame:
    schema = _text_schema(columns)
    frame = with_file_position(spark.read.schema(schema).options(**_parser_options(options)).csv(paths))
    return frame.select(
        *[
            quoted(name) if name in schema.names or name in (FILE, ORDER) else quoted(name).cast("string").alias(name)
            for name in frame.columns
        ]
    )


def _read_line_by_line(
    spark: SparkSession, paths: list[str], columns: list[str], options: Mapping[str, str]
) -> DataFrame:
    """As `_read_group`, where lines of more than MAX_LINE bytes never meet the parser: they are corrupt records.

    A line of commas alone has more fields than Spark's reader takes, which ends the job; room for as many in each
    reader would cost every good file.
    """
    theirs = {key: value for key, value in options.items() if key in ("linesep", "encoding", "basepath")}
    lines = with_file_position(spark.read.options(**theirs).text(paths)).where(F.trim("value") != "")
    if options.get("comment"):
        lines = lines.where(~F.startswith("value", F.lit(options["comment"])))
    if has_header(options):
        headers = lines.groupBy(F.col(FILE).alias("_file")).agg(F.min(ORDER).alias("_header"))
        is_header = (F.col(FILE) == F.col("_file")) & (F.col(ORDER) == F.col("_header"))
        lines = lines.join(F.broadcast(headers), on=is_header, how="left_anti")
    text = F.make_valid_utf8("value")
    is_long = F.octet_length(text) > MAX_LINE
    parser = {**_parser_options(options), "maxcolumns": str(MAX_LINE + 2)}
    fields = F.from_csv(F.when(~is_long, text), _ddl(columns), parser)
    folders = [quoted(name).cast("string").alias(name) for name in lines.columns if name not in ("value", FILE, ORDER)]
    return lines.withColumn("_fields", fields).select(
        *[F.col("_fields")[name].alias(name) for name in columns],
        F.when(is_long, text).otherwise(F.col("_fields")[CORRUPT]).alias(CORRUPT),
        *folders,
        FILE,
        ORDER,
    )


def _text_schema(columns: list[str]) -> StructType:
    return StructType([StructField(name, StringType()) for name in [*columns, CORRUPT]])


def _ddl(columns: list[str]) -> str:
    return ", ".join(f"`{name.replace('`', '``')}` string" for name in [*columns, CORRUPT])


def _parser_options(options: Mapping[str, str]) -> dict[str, str]:
    return {
        **{key: value for key, value in options.items() if key not in OURS},
        "header": str(has_header(options)).lower(),
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": CORRUPT,
        # With pruning on, a row's fields are not counted, and one with too many or too few passes for a good one.
        "columnPruning": "false",
    }


def _headers(
    spark: SparkSession, raw_files: Sequence[RawFile], options: Mapping[str, str]
) -> list[tuple[str, ...] | Broken]:
    """Each file's column names in the file's order, or why there are none."""

    def header(file: RawFile) -> tuple[str, ...] | Broken:
        try:
            fields = _first_record(spark, file.path, options)
        except csv.Error as error:
            return Broken(file.name, file.arrival, f"its header cannot be read ({error})")
        except Py4JJavaError as error:
            return Broken(file.name, file.arrival, f"it cannot be read ({java_message(error)})")
        return tuple(_column_names(fields, has_header(options))) if fields else Broken(file.name, file.arrival, EMPTY)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(header, raw_files))


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
