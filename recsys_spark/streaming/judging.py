"""The lines of a stream, judged by the rules of clean_events that look at one row by itself.

What those rules need other rows for is left to clean_events: near duplicates, robots, outliers, and netting of returns
(where `cleaning.returns` is `net`, the stream rejects returns). Days of arrival are unknown here; lateness and times
ahead of the clock are judged by `streaming.sorting`, for the batch as a whole.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark.config import Config
from recsys_spark.config.cleaning import Cleaning
from recsys_spark.config.sources import Source
from recsys_spark.config.streaming import Stream
from recsys_spark.events.catalogue import catalogue_rows
from recsys_spark.events.columns import with_our_columns
from recsys_spark.events.json_files import parsed_objects
from recsys_spark.events.predicates import check_predicates
from recsys_spark.events.rows import ARRIVAL, FILE, ORDER, RAW, WHY, find_column, quoted, with_text_checks
from recsys_spark.events.rules.content import blocked_items
from recsys_spark.events.rules.lookups import Lookups

EVENT_ID, MICROS, ARRIVED = "event_id", "micros", "arrived"
EVENT = ("user_id", "item_id", "event_type", "quantity", "price", "order_id")
JUDGED = (EVENT_ID, *EVENT, MICROS, WHY, FILE, RAW, ARRIVED)
"""Columns of a judged row: the event (null where unusable; MICROS is its time, microseconds since 1970), WHY as
`events.rows` says it (null for a good row), the file, the line as it stood there, and when that came (microseconds)."""
WHERE = "stream"


def stream_lookups(spark: SparkSession, config: Config) -> Lookups:
    """What rows are looked up in, fixed while the job runs: the blocked items. Raises UserError as they do."""
    cleaning = config.cleaning
    catalogue = catalogue_rows(spark, config.catalog, cleaning) if cleaning.forbidden_text else None
    return Lookups(blocked=blocked_items(spark, cleaning, catalogue))


def judged(lines: DataFrame, stream: Stream, cleaning: Cleaning, lookups: Lookups) -> DataFrame:
    """One row a line of `lines(value string, _source_file string, arrived timestamp)` that is not blank: JUDGED.

    An event's name is what stands under `stream.event_id`, else the SHA-256 of its line. Raises UserError for a
    predicate, pattern or timestamp format that cannot be used.
    """
    source = stream.source
    keys = sorted({*source.columns.values(), stream.event_id})

    def check(frame: DataFrame, where: str) -> None:
        check_predicates(frame, source.reject, where)

    objects = lines.where(F.trim("value") != "").select(
        F.make_valid_utf8("value").alias("value"),
        F.col(FILE),
        F.unix_micros(ARRIVED).alias(ORDER),  # a column that passes through all rules
        F.lit(None).cast("date").alias(ARRIVAL),
    )
    rows = parsed_objects(objects, keys, source, WHERE, 0, check, source.columns)
    plain = with_text_checks(_with_whole_times(rows, source), source)
    events = with_our_columns(plain, source, WHERE, _of_single_rows(cleaning), lookups)
    micros = F.unix_micros("event_time").alias(MICROS)
    arrived = F.col(ORDER).alias(ARRIVED)
    return events.select(_name(stream.event_id).alias(EVENT_ID), *EVENT, micros, WHY, FILE, RAW, arrived)


def _of_single_rows(cleaning: Cleaning) -> Cleaning:
    returns = "reject" if cleaning.returns == "net" else cleaning.returns
    return cleaning.model_copy(update={"returns": returns})


def _name(key: str) -> Column:
    told = F.from_json(RAW, StructType([StructField(key, StringType())]))[key]
    return F.coalesce(F.when(F.trim(told) != "", told), F.substring(F.sha2(RAW, 256), 1, 32))


def _with_whole_times(rows: DataFrame, source: Source) -> DataFrame:
    """Times that are numbers with a fraction as whole microseconds; the rules know whole numbers alone.

    Spark writes 1700000000.5 as 1.7000000005E9. Magnitudes are told apart as `events.columns` does.
    """
    key = find_column(rows.columns, source.columns["event_time"])
    if source.timestamp_format is not None or key is None:
        return rows
    text = quoted(key)
    number = F.when(text.rlike(r"^\d+(\.\d+)?([eE]\+?\d+)?$") & text.rlike(r"[.eE]"), text.try_cast("double"))
    micros = (
        F.when(number < 10**8, None)
        .when(number < 10**11, number * 1_000_000)
        .when(number < 10**14, number * 1_000)
        .when(number < 10**17, number)
    )
    whole = F.coalesce(F.round(micros).cast("bigint").cast("string"), text)
    return rows.select(*[whole.alias(key) if name == key else quoted(name) for name in rows.columns])
