"""From a source's own columns to ours, with every reason why a row cannot be used."""

from __future__ import annotations

from functools import reduce

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

from recsys_spark.config.sections import Source
from recsys_spark.errors import UserError
from recsys_spark.events.predicates import REJECTED, REJECTIONS, with_rejections
from recsys_spark.events.rows import CORRUPT, FILE, HASH, ORDER, RAW, find_column, own_columns, quoted

REASONS = (
    "malformed_row",
    "missing_user_id",
    "missing_item_id",
    "bad_event_time",
    "unknown_event_type",
    "bad_quantity",
    "bad_price",
)
"""Built-in reasons, in the order in which a row's reasons stand; the names of `reject` come after them."""
ISO_DATE = r"^\d{4}-\d{1,2}-\d{1,2}"
EPOCH = r"^\d{9,19}$"
EARLIEST, LATEST = "1970-01-01 00:00:00", "2200-01-01 00:00:00"
"""Times outside are taken for errors: a year 1900 or 9999 is some system's word for `unknown`."""


def with_our_columns(frame: DataFrame, source: Source, where: str) -> DataFrame:
    """One row a source row: our columns (null where unusable), `bad`, `reasons`, and FILE, ORDER, HASH, RAW.

    `bad` boolean says whether `reasons` array<string> has any: it costs nothing where reasons are not read. Raises
    UserError for a timestamp format or reject predicate that cannot be used.
    """
    check_timestamp_format(frame, source, where)
    judged = with_rejections(frame, source.reject, where)
    available = own_columns(frame)
    types = {field.name: field.dataType for field in frame.schema}

    def mapped(name: str) -> tuple[Column, DataType] | None:
        column = find_column(available, source.columns[name]) if name in source.columns else None
        return None if column is None else (quoted(column), types[column])

    def text(name: str) -> Column:
        found = mapped(name)
        return F.lit(None).cast("string") if found is None else plain_text(*found)

    def number(name: str) -> Column:
        found = mapped(name)
        return F.lit(None).cast("double") if found is None else plain_number(*found)

    def present(name: str) -> Column:
        found = mapped(name)
        return F.lit(False) if found is None else _present(*found)

    time = mapped("event_time")
    assert time is not None, "config and read_source require event_time"
    columns = {
        "user_id": text("user_id"),
        "item_id": text("item_id"),
        "event_type": _event_type(source, text("event_type")),
        "event_time": _plausible(_time(*time, source.timestamp_format)),
        "quantity": number("quantity"),
        "price": number("price"),
        "order_id": text("order_id"),
    }
    broken = {
        "malformed_row": F.col(CORRUPT).isNotNull() if CORRUPT in frame.columns else F.lit(False),
        "missing_user_id": columns["user_id"].isNull(),
        "missing_item_id": columns["item_id"].isNull(),
        "bad_event_time": columns["event_time"].isNull(),
        "unknown_event_type": columns["event_type"].isNull(),
        "bad_quantity": present("quantity") & columns["quantity"].isNull(),
        "bad_price": present("price") & columns["price"].isNull(),
    }
    bad = reduce(lambda left, right: left | right, broken.values(), F.col(REJECTED))
    reasons = F.array_compact(F.array(*[F.when(broken[reason], F.lit(reason)) for reason in REASONS]))
    if source.reject:
        reasons = F.array_distinct(F.concat(reasons, F.col(REJECTIONS)))
    return judged.select(
        *[column.alias(name) for name, column in columns.items()],
        F.to_date(columns["event_time"]).alias("event_date"),
        bad.alias("bad"),
        reasons.alias("reasons"),
        *[F.col(name) for name in (FILE, ORDER, HASH, RAW)],
    )


def check_timestamp_format(frame: DataFrame, source: Source, where: str) -> None:
    """Raise UserError where Spark does not know the pattern."""
    if source.timestamp_format is None:
        return
    try:
        frame.sparkSession.range(1).select(F.try_to_timestamp(F.lit("x"), F.lit(source.timestamp_format))).collect()
    except Exception as error:
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
    value = (plain_text(column, type_) if isinstance(type_, StringType) else column).try_cast("double")
    return F.when(~F.isnan(value) & (F.abs(value) != float("inf")), value)


def _present(column: Column, type_: DataType) -> Column:
    if isinstance(type_, (FloatType, DoubleType)):
        return column.isNotNull() & ~F.isnan(column)
    return column.isNotNull() if isinstance(type_, NumericType) else plain_text(column, type_).isNotNull()


def _time(column: Column, type_: DataType, pattern: str | None) -> Column:
    """A timestamp: the column's own, by the pattern, ISO 8601, or seconds to nanoseconds since 1970 by magnitude."""
    if isinstance(type_, (TimestampType, TimestampNTZType, DateType)):
        return column.cast("timestamp")
    text = plain_text(column, type_)
    if pattern is not None:
        return F.try_to_timestamp(text, F.lit(pattern))
    if isinstance(type_, NumericType):
        return _since_1970(column.try_cast("bigint"))
    # Spark would also read "8:26" as that time of today.
    iso = F.when(text.rlike(ISO_DATE), text.try_cast("timestamp"))
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
