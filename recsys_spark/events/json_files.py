"""JSON files: one object a line, or with the option multiLine one object or array a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark.config.sources import Files
from recsys_spark.errors import UserError
from recsys_spark.events.raw_files import Check, Raw, RawFile
from recsys_spark.events.rows import (
    ARRIVAL,
    CORRUPT,
    FILE,
    HASH,
    MAX_LINE,
    ORDER,
    RAW,
    TOO_LONG,
    lacking,
    quoted,
    refuse_internal,
    require_columns,
    united,
    with_file_position,
)
from recsys_spark.events.scans import Scan, joined_columns, scans, with_arrival

SAMPLE_ROWS = 1000
"""Rows in which keys are looked for first; all rows are looked through only where a wanted key is not among those."""
OURS = {"mode", "columnnameofcorruptrecord", "multiline", "primitivesasstring", "samplingratio", "linesep", "encoding"}
TEXT_OPTIONS = {"linesep", "encoding", "pathglobfilter", "recursivefilelookup", "modifiedbefore", "modifiedafter"}


def read_json(
    spark: SparkSession, files: Files, where: str, index: int, check: Check, raw_files: Sequence[RawFile], whole: bool
) -> Raw:
    """All rows as strings (a nested value as its JSON text), with the internal columns.

    Of keys that differ in letter case alone, one is read. Raises UserError where a mapped key is nowhere; a row without
    a key that others have has a null.
    """
    grouped = scans(spark, files, raw_files, [None] * len(raw_files), whole)
    objects = united([_objects(spark, files, scan) for scan in grouped])
    keys = _keys(objects.limit(SAMPLE_ROWS), files)
    try:
        return Raw(parsed_objects(objects, keys, files, where, index, check, files.columns))
    except UserError:
        keys = _keys(objects, files)
        if not keys:
            raise UserError(f"{where}: there is no JSON object in it") from None
        return Raw(parsed_objects(objects, keys, files, where, index, check, files.columns if whole else files.needed))


def _objects(spark: SparkSession, files: Files, scan: Scan) -> DataFrame:
    """One object a row, as text in `value`, with FILE, ORDER, ARRIVAL and the columns that folder names add."""
    options = {key.lower(): value for key, value in files.options.items()}
    whole = str(options.get("multiline", "false")).lower() == "true"
    told = {key: value for key, value in options.items() if key in TEXT_OPTIONS}
    reader = spark.read.options(**told, **({"basepath": scan.base} if scan.base else {}))
    text = with_arrival(with_file_position(reader.text(list(scan.paths), wholetext=whole)), files, scan.members)
    # Text keeps bytes that are no UTF-8, at which readers of what is written from it would stop.
    text = text.withColumn("value", F.make_valid_utf8("value"))
    if whole:
        elements = F.coalesce(F.from_json("value", "array<string>"), F.array("value"))
        rest = [quoted(name) for name in text.columns if name not in ("value", ORDER)]
        text = text.select(*rest, F.posexplode(elements).alias(ORDER, "value"))
        text = text.withColumn(ORDER, F.col(ORDER).cast("bigint"))
    return text.where(F.trim("value") != "")


def is_long() -> Column:
    """Is an object longer than what counts as one."""
    return F.octet_length("value") > MAX_LINE


def _keys(objects: DataFrame, files: Files) -> list[str]:
    """The keys of the objects, each once whatever its letter case; a configured spelling wins."""
    short = objects.where(~is_long())
    found = short.select(F.explode(F.json_object_keys("value")).alias("key")).distinct().orderBy("key").collect()
    configured = set(files.columns.values())
    names: dict[str, str] = {}
    for name in sorted((row["key"] for row in found), key=lambda name: (name not in configured, name)):
        names.setdefault(name.strip().lower(), name)
    return sorted(names.values())


def parsed_objects(
    objects: DataFrame,
    keys: list[str],
    files: Files,
    where: str,
    index: int,
    check: Check,
    wanted: Iterable[str],
) -> DataFrame:
    """The objects (`value`, FILE, ORDER, ARRIVAL, folders' columns) by their keys, with what every row carries.

    Raises UserError where one of our `wanted` columns is mapped to a key that is not among `keys`.
    """
    folders = [name for name in objects.columns if name not in ("value", FILE, ORDER, ARRIVAL)]
    refuse_internal([*keys, *folders], where)
    joined = joined_columns(files)
    require_columns([*keys, *folders, *joined], files, where, wanted)
    keys = keys + [files.columns[ours] for ours in lacking([*keys, *folders, *joined], files)]
    schema = StructType([StructField(name, StringType()) for name in [*keys, CORRUPT]])
    options = {key: value for key, value in files.options.items() if key.lower() not in OURS}
    # A line that is too long is not parsed at all.
    value = F.when(~is_long(), F.col("value"))
    parsed = objects.withColumn(
        "_parsed", F.from_json(value, schema, {**options, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT})
    )
    columns: list[Column] = [F.col("_parsed")[name].alias(name) for name in keys]
    columns.append(F.when(is_long(), F.col("value")).otherwise(F.col("_parsed")[CORRUPT]).alias(CORRUPT))
    columns += [quoted(name).cast("string").alias(name) for name in folders if name not in keys]
    columns += [F.col(FILE), F.col(ORDER), F.col(ARRIVAL), F.col("value").alias(RAW), is_long().alias(TOO_LONG)]
    columns.append(F.xxhash64(F.lit(index), F.col("value")).alias(HASH))
    frame = parsed.select(*columns)
    if not joined:
        check(frame, where)
    return frame
