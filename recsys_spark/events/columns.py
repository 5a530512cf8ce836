"""From a source's own columns to ours, with every reason why a row cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DateType,
    DoubleType,
    FloatType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.config.sources import Source
from recsys_spark.errors import UserError
from recsys_spark.events.predicates import REJECTED, REJECTIONS, with_rejections
from recsys_spark.events.rows import (
    ARRIVAL,
    BAD_ENCODING,
    BETWEEN,
    CORRUPT,
    FILE,
    HASH,
    MISSING_JOINS,
    ORDER,
    RAW,
    TOO_LONG,
    WHY,
    find_column,
    own_columns,
    quoted,
)
from recsys_spark.events.rules.lookups import Lookups, with_lookups
from recsys_spark.events.rules.patterns import check_java_patterns
from recsys_spark.events.rules.rows import MALFORMED, REASONS, broken_rules
from recsys_spark.events.rules.spelling import spelled

__all__ = ["REASONS", "parsed_time", "plain_number", "plain_text", "with_our_columns"]

EVENT = ("user_id", "item_id", "event_type", "event_time", "quantity", "price", "order_id")
NUMBERS = ("quantity", "price")
PARSED = ("event_time", *NUMBERS)
ROW = "_row"
"""The row's own columns together."""
EPOCH = r"^\d{9,19}$"
EARLIEST, LATEST = "1970-01-01 00:00:00", "2200-01-01 00:00:00"
"""Times outside are taken for errors: a year 1900 or 9999 is some system's word for `unknown`."""


def with_our_columns(
    frame: DataFrame,
    source: Source,
    where: str,
    cleaning: Cleaning | None = None,
    lookups: Lookups | None = None,
    text: Sequence[str] | None = None,
) -> DataFrame:
    """One row a source row: our columns (null where unusable), its dates, the verdict, and FILE, ORDER, HASH, RAW.

    The dates are event_date and arrival_date, which is the event's where the source does not tell of arrivals. The
    verdict is `bad` boolean, `reasons` array<string>, and WHY, the same as one text. With `text`, the columns of which
    RAW is the JSON, RAW is made for bad rows alone, and null for others. What is not read costs nothing. Raises
    UserError for a timestamp format, reject predicate or pattern that cannot be used.
    """
    cleaning, lookups = cleaning or Cleaning(), lookups or Lookups()
    check_timestamp_format(frame, source, where)
    for key in ("test_account_patterns", "forbidden_text"):
        check_java_patterns(frame.sparkSession, getattr(cleaning, key), f"cleaning.{key}")
    mapped = _mapped(with_rejections(frame, source.reject, where), source, cleaning, text)
    events = with_lookups(mapped, lookups)
    broken = broken_rules(mapped.columns, cleaning, lookups)
    bad = reduce(lambda left, right: left | right, broken.values(), F.col(REJECTED))
    parts = [F.when(rule, F.lit(reason)) for reason, rule in broken.items()]
    if MISSING_JOINS in mapped.columns:
        missing = F.coalesce(F.col(MISSING_JOINS), F.array().cast("array<string>"))
        bad = bad | (F.size(missing) > 0)
        parts.append(F.transform(missing, lambda name: F.concat(F.lit("without_"), name)))
    if source.reject:
        parts.append(F.nullif(F.col(REJECTIONS), F.lit("")))
    why = F.concat_ws(BETWEEN, *parts)
    if set(source.reject) & set(broken):  # a name of the user's that is one of ours
        why = F.array_join(F.array_distinct(F.split(why, BETWEEN)), BETWEEN)
    arrival = F.coalesce(ARRIVAL, "event_date") if ARRIVAL in mapped.columns else F.col("event_date")
    return events.select(
        *EVENT,
        "event_date",
        arrival.alias("arrival_date"),
        bad.alias("bad"),
        F.when(bad, F.split(why, BETWEEN)).otherwise(F.array().cast("array<string>")).alias("reasons"),
        *[F.col(name) for name in (FILE, ORDER, HASH)],
        (F.col(RAW) if text is None else F.when(bad, _row_text(mapped))).alias(RAW),
        F.when(bad, why).alias(WHY),
    )


def _row_text(mapped: DataFrame) -> Column:
    """RAW of a row whose columns were kept as ROW."""
    json = F.to_json(ROW)
    return F.coalesce(F.col(CORRUPT), json) if CORRUPT in mapped.columns else json


def _mapped(judged: DataFrame, source: Source, cleaning: Cleaning, text: Sequence[str] | None) -> DataFrame:
    """Our columns of the source's rows, event_date, and what rules need to know besides.

    One select a step, so that a text is trimmed, and a time and a number parsed, once however often it is asked for.
    """
    told = [name for name in (BAD_ENCODING, TOO_LONG, MISSING_JOINS, ARRIVAL) if name in judged.columns]
    corrupt = F.col(CORRUPT).isNotNull() if CORRUPT in judged.columns else F.lit(False)
    kept = [*told, REJECTED, REJECTIONS, FILE, ORDER, HASH]
    whole: list[Column] = []
    if text is None:
        kept.append(RAW)
    else:
        whole = [F.struct(*map(quoted, text)).alias(ROW)]
        kept += [CORRUPT] if CORRUPT in judged.columns else []
    plain = judged.select(*_plain_columns(judged, source), corrupt.alias(MALFORMED), *kept, *whole)
    types = {field.name: field.dataType for field in plain.schema}
    kept += [MALFORMED, *([ROW] if whole else [])]
    present = [_present(F.col(name), types[name]).alias(f"_has_{name}") for name in NUMBERS]
    parsed = plain.select(
        "user_id",
        spelled(F.col("item_id"), cleaning.item_ids).alias("item_id"),
        _event_type(source, F.col("event_type")).alias("event_type"),
        parsed_time(F.col("event_time"), types["event_time"], source.timestamp_format).alias("event_time"),
        *[F.col(name).try_cast("double").alias(name) for name in NUMBERS],
        *present,
        "order_id",
        *kept,
    )
    possible = parsed.select(
        "user_id",
        "item_id",
        "event_type",
        _plausible(F.col("event_time")).alias("event_time"),
        *[_finite(F.col(name)).alias(name) for name in NUMBERS],
        "order_id",
        *[f"_has_{name}" for name in NUMBERS],
        *kept,
    )
    unreadable = [(F.col(f"_has_{name}") & F.col(name).isNull()).alias(f"_bad_{name}") for name in NUMBERS]
    return possible.select(*EVENT, F.to_date("event_time").alias("event_date"), *unreadable, *kept)


def _plain_columns(frame: DataFrame, source: Source) -> list[Column]:
    """The mapped columns under our names: ids and all text plain, other times and numbers as they are."""
    available = own_columns(frame)
    types = {field.name: field.dataType for field in frame.schema}
    columns = []
    for ours in EVENT:
        name = find_column(available, source.columns[ours]) if ours in source.columns else None
        if name is None:
            column = F.lit(None).cast("double" if ours in NUMBERS else "string")
        elif ours in PARSED and not isinstance(types[name], StringType):
            column = quoted(name)
        else:
            column = plain_text(quoted(name), types[name])
        columns.append(column.alias(ours))
    return columns


def check_timestamp_format(frame: DataFrame, source: Source, where: str) -> None:
    """Raise UserError where Spark does not know the pattern."""
    if source.timestamp_format is None:
        return
    try:
        frame.sparkSession.range(1).select(F.try_to_timestamp(F.lit("x"), F.lit(source.timestamp_format))).collect()
    except (PySparkException, Py4JError) as error:
        message = " ".join(str(error).split("SQLSTATE")[0].split())
        raise UserError(f"{where}: timestamp_format {source.timestamp_format!r} cannot be used: {message}") from None


def plain_text(column: Column, type_: DataType) -> Column:
    """Trimmed text, null where empty; an id that a float column holds is written without its `.0`."""
    if isinstance(type_, (FloatType, DoubleType)):
        whole = column.try_cast("bigint")
        text = F.when(whole == column, whole.cast("string")).otherwise(column.cast("string"))
        return F.when(~F.isnan(column), text)
    if isinstance(type_, NumericType):
        return column.cast("string")
    return F.nullif(F.trim(column.cast("string")), F.lit(""))


def plain_number(column: Column, type_: DataType) -> Column:
    """A finite double, else null."""
    if isinstance(type_, NumericType) and not isinstance(type_, (FloatType, DoubleType)):
        return column.cast("double")
    return _finite((plain_text(column, type_) if isinstance(type_, StringType) else column).try_cast("double"))


def _finite(number: Column) -> Column:
    return F.when(F.abs(number) < float("inf"), number)  # Spark takes NaN for larger than infinity


def _present(column: Column, type_: DataType) -> Column:
    there = column.isNotNull()
    return there & ~F.isnan(column) if isinstance(type_, (FloatType, DoubleType)) else there


def parsed_time(column: Column, type_: DataType, pattern: str | None = None) -> Column:
    """A timestamp: the column's own, by the pattern, ISO 8601, or seconds to nanoseconds since 1970 by magnitude."""
    if isinstance(type_, (TimestampType, TimestampNTZType, DateType)):
        return column.cast("timestamp")
    text = column if isinstance(type_, StringType) else plain_text(column, type_)
    if pattern is not None:
        return F.try_to_timestamp(text, F.lit(pattern))
    if isinstance(type_, NumericType):
        return _since_1970(column.try_cast("bigint"))
    # Spark would also read "8:26" as that time of today, and "2024-05" as a day: year, month and day must be there. A
    # regular expression would say so too, but costs more for each row.
    dashes = [F.substring(text, place, 1) == "-" for place in (5, 7, 8)]
    iso = F.when(dashes[0] & (dashes[1] | dashes[2]), text.try_cast("timestamp"))
    return iso.when(text.rlike(EPOCH), _since_1970(text.try_cast("bigint")))


def _since_1970(number: Column) -> Column:
    micros = (
        F.when(number < 10**11, number * 1_000_000)
        .when(number < 10**14, number * 1_000)
        .when(number < 10**17, number)
        .otherwise((number / 1_000).cast("bigint"))
    )
    return F.when(number >= 0, F.timestamp_micros(micros))


def _plausible(time: Column) -> Column:
    return F.when((time >= F.lit(EARLIEST).cast("timestamp")) & (time < F.lit(LATEST).cast("timestamp")), time)


def _event_type(source: Source, value: Column) -> Column:
    """The constant, the mapped value (null where it is not in the map), or the value in small letters."""
    if source.event_type is not None:
        return F.lit(source.event_type)
    if not source.event_types:
        return F.lower(value)
    mapped = F.lit(None).cast("string")
    for theirs, ours in source.event_types.items():
        mapped = F.when(F.lower(value) == theirs.strip().lower(), F.lit(ours)).otherwise(mapped)
    return mapped
