"""Stage clean_events: from the configured sources to clean events, quarantine and the quality report."""

from __future__ import annotations

import json
from functools import reduce

from pyspark.sql import DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from recsys_spark.config.sections import Source
from recsys_spark.errors import UserError
from recsys_spark.events.columns import REASONS, with_our_columns
from recsys_spark.events.predicates import check_predicates
from recsys_spark.events.quality import (
    observe_clean,
    observe_reasons,
    observe_rows,
    quality_report,
    reason_counts,
    reasons_met,
)
from recsys_spark.events.rows import FILE, HASH, ORDER, RAW
from recsys_spark.events.sources import file_errors, read_source
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.pipeline.stage import StageContext, StageResult

SHOWN_TYPES = 10
"""Unknown event types that are named in a message."""


def run(context: StageContext) -> StageResult:
    """Write clean_events, quarantine and quality/report.json.

    Good data is read once, for the clean write; rows in quarantine are read a second time, only where there are any.
    Raises UserError where there is no row, or none that can be used, where a file turns out broken while it is read,
    or where no event is of a known type, and RuntimeError where counts do not reconcile.
    """
    config = context.config
    judged = judged_rows(context.spark, config.source)
    rows, clean, bad = Observation("rows"), Observation("clean"), Observation("bad")
    reasons = [*REASONS, *dict.fromkeys(name for source in config.source for name in source.reject)]
    with file_errors():
        kept = context.write_table("clean_events", clean_events(observe_rows(judged.drop(RAW, "reasons"), rows), clean))
        if not kept:
            raise _nothing_left(judged, reasons, config.source)
        # An observation of a plan that Spark found empty never comes, so each is asked for only where rows passed it.
        some_bad = bool(rows.get["quarantined"])
        rejected = quarantine(judged if some_bad else judged.limit(0), context.run_id)
        quarantined = context.write_table("quarantine", observe_reasons(rejected, reasons, bad))
        rows_in = _reconciled(int(rows.get["rows"]), kept + int(clean.get["duplicates"]) + quarantined, judged)
    written = context.written_table("clean_events")
    if clean.get["unknown_types"]:
        unknown = _unknown_types(written)
        if kept == clean.get["unknown_types"]:
            raise UserError(f"source {_paths(config.source)}: no event is of a known type, only of {unknown}")
        context.progress(f"events of unknown types count as other: {unknown}")
    items = written.select("item_id").distinct().count()
    report = quality_report(rows_in, clean.get, quarantined, bad.get if some_bad else {}, items)
    path = context.new_directory("quality") / "report.json"
    path.write_text(json.dumps(report, indent=1), encoding="utf-8")
    context.tracked.log_artifact(path, "quality")
    context.progress(
        f"{report['rows_in']:,} rows: {kept:,} clean, {report['duplicates']:,} duplicates, {quarantined:,} quarantined"
    )
    metrics = {
        name: float(report[name]) for name in ("rows_in", "clean", "duplicates", "quarantined", "users", "items")
    }
    return StageResult(metrics=metrics, facts={"newest_event": report["newest_event"], "report": report})


def judged_rows(spark: SparkSession, sources: tuple[Source, ...]) -> DataFrame:
    """The rows of all sources with our columns and the reasons against each."""
    frames = []
    for index, source in enumerate(sources):
        key = "source" if len(sources) == 1 else f"source[{index}]"

        def check(frame: DataFrame, where: str, source: Source = source) -> None:
            check_predicates(frame, source.reject, where)

        raw = read_source(spark, source, index, key, check)
        frames.append(with_our_columns(raw, source, f"{key} {', '.join(source.paths)}"))
    return reduce(lambda left, right: left.unionByName(right), frames)


def clean_events(judged: DataFrame, observation: Observation) -> DataFrame:
    """The rows without a reason, each once: of exact copies the one with the smallest (file, order) stays.

    One shuffle, by user. Copies are found by the hash of the whole source row beside user and time, so two different
    rows of one user and moment would have to share a 64-bit hash to be taken for copies.
    """
    by_user = Window.partitionBy("user_id").orderBy("event_time", HASH, FILE, ORDER)
    marked = (
        judged.where(~F.col("bad"))
        .repartition("user_id")
        .withColumn("_time_before", F.lag("event_time").over(by_user))
        .withColumn("_hash_before", F.lag(HASH).over(by_user))
        .withColumn("_first_of_user", F.col("_time_before").isNull())
        .withColumn(
            "_is_copy",
            F.coalesce(
                (F.col("_time_before") == F.col("event_time")) & (F.col("_hash_before") == F.col(HASH)), F.lit(False)
            ),
        )
    )
    columns = ("user_id", "item_id", "event_type", "event_time", "quantity", "price", "order_id")
    return (
        observe_clean(marked, observation)
        .where(~F.col("_is_copy"))
        .select(*columns, F.col(FILE).alias("source_file"), "event_date", F.col(ORDER).alias("source_order"))
    )


def quarantine(judged: DataFrame, run_id: str) -> DataFrame:
    """The rows with a reason: source_file, raw, reasons, run_id."""
    return judged.where(F.col("bad")).select(
        F.col(FILE).alias("source_file"), F.col(RAW).alias("raw"), "reasons", F.lit(run_id).alias("run_id")
    )


def _paths(sources: tuple[Source, ...]) -> str:
    return ", ".join(path for source in sources for path in source.paths)


def _nothing_left(judged: DataFrame, reasons: list[str], sources: tuple[Source, ...]) -> UserError:
    paths = _paths(sources)
    counts = judged.agg(F.count(F.lit(1)).alias("rows"), *reason_counts(reasons)).collect()[0].asDict()
    if not counts["rows"]:
        return UserError(f"source {paths}: there are no rows in it; check path and options")
    met = ", ".join(f"{reason} {count}" for reason, count in reasons_met(counts).items())
    return UserError(f"source {paths}: none of {counts['rows']} rows can be used ({met}); check columns and formats")


def _unknown_types(clean: DataFrame) -> str:
    """The types that are not in EVENT_TYPES, the most frequent first, and what to do about them."""
    unknown = clean.where(~F.col("event_type").isin(*EVENT_TYPES)).groupBy("event_type").count()
    rows = unknown.orderBy(F.desc("count"), "event_type").limit(SHOWN_TYPES + 1).collect()
    names = [f"{row['event_type']!r} ({row['count']:,})" for row in rows[:SHOWN_TYPES]]
    more = " and more" if len(rows) > SHOWN_TYPES else ""
    return f"{', '.join(names)}{more}; known are {', '.join(EVENT_TYPES)}: set event_type or event_types accordingly"


def _reconciled(rows_in: int, rows_out: int, judged: DataFrame) -> int:
    """The rows that came in, after checking that in = clean + duplicates + quarantined.

    `rows_in` is observed in tasks that Spark may have run twice (an executor was lost); rows are then counted again.
    """
    if rows_in != rows_out:
        rows_in = judged.count()
    if rows_in != rows_out:
        raise RuntimeError(f"{rows_in} rows came in, but {rows_out} went out: the source changed meanwhile; run again")
    return rows_in
