"""All rows of a run with what is found against each, before they are brought together by user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.sources import Source
from recsys_spark.events.catalogue import catalogue_rows
from recsys_spark.events.columns import with_our_columns
from recsys_spark.events.layout import carry
from recsys_spark.events.plan import Plan, Reading
from recsys_spark.events.predicates import check_predicates
from recsys_spark.events.raw_files import NothingReadable, Raw
from recsys_spark.events.rows import own_columns
from recsys_spark.events.rules.content import blocked_items
from recsys_spark.events.rules.groups import group_rules_on
from recsys_spark.events.rules.lookups import Lookups
from recsys_spark.events.rules.outliers import bounds, value_histograms
from recsys_spark.events.rules.small import broadcast_when_small
from recsys_spark.events.sources import Broken, read_source
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tables.location import spark_path

STATISTICS = "statistics"
"""Directory of what arrivals tell of each item's quantities and prices, a file or more an arrival date."""


@dataclass(frozen=True)
class Judged:
    """The rows of a run."""

    rows: DataFrame | None
    """As `columns.with_our_columns` gives them; None where no file that was to be read can be."""
    schemas: Mapping[str, Mapping[str, str]]
    """Of each source its columns and their types."""
    broken: tuple[Broken, ...]
    """Files that stay out as a whole."""


def lookups_of(context: StageContext, todo: Plan) -> Lookups:
    """What rows are looked up in."""
    blocked = _blocked(context)
    if not context.config.cleaning.outliers.kinds:
        return Lookups(blocked=blocked)
    return Lookups(bounds=_usual(context, todo, blocked), blocked=blocked)


def judge(
    context: StageContext, todo: Plan, lookups: Lookups, readings: Sequence[Reading] | None = None, texts: bool = False
) -> Judged:
    """Read the sources (or some of them) and judge each row by itself; with `texts`, good rows have theirs too.

    Raises UserError as `read_source` and the rules do.
    """
    readings = todo.readings if readings is None else readings
    frames, schemas, broken = [], {}, list(todo.broken)
    for index, reading in enumerate(readings):
        source = reading.source
        where = f"{reading.key} {', '.join(source.paths)}"

        def check(frame: DataFrame, label: str, source: Source = source) -> None:
            check_predicates(frame, source.reject, label)

        if reading.files is not None and not reading.files:
            continue
        try:
            raw = read_source(context.spark, source, index, reading.key, check, reading.files, reading.listed)
        except NothingReadable as error:
            if reading.files is None:
                raise
            broken += error.broken  # some days' files of one source: the others go on
            continue
        raw = _kept(context, raw, index) if source.format in ("table", "jdbc") else raw
        broken += raw.broken
        types = {field.name: field.dataType.simpleString() for field in raw.frame.schema}
        schemas[reading.key] = {name: types[name] for name in own_columns(raw.frame)}
        text = None if texts else raw.text
        frames.append(with_our_columns(raw.frame, source, where, context.config.cleaning, lookups, text))
    rows = reduce(lambda left, right: left.unionByName(right), frames) if frames else None
    return Judged(rows, schemas, tuple(broken))


def _kept(context: StageContext, raw: Raw, index: int) -> Raw:
    """A table's rows as they were read first, where they are read again: a table has no order of its own."""
    if not group_rules_on(context.config.cleaning):
        return raw
    kept = context.run_directory / "scratch" / f"source-{index}"
    if not kept.exists():
        raw.frame.write.parquet(spark_path(kept))
    return replace(raw, frame=context.spark.read.schema(raw.frame.schema).parquet(spark_path(kept)))


def _blocked(context: StageContext) -> DataFrame | None:
    cleaning = context.config.cleaning
    catalogue = catalogue_rows(context.spark, context.config.catalog, cleaning) if cleaning.forbidden_text else None
    return blocked_items(context.spark, cleaning, catalogue)


def _usual(context: StageContext, todo: Plan, blocked: DataFrame | None) -> DataFrame:
    """The bounds of each item and week, from the arrivals before the week.

    In daily mode an arrival is counted once, when it is new; its histograms are taken over from version to version.
    """
    outliers = context.config.cleaning.outliers
    directory = context.run_directory / STATISTICS
    directory.mkdir(exist_ok=True)
    if todo.previous is not None:
        carry(todo.previous / STATISTICS, directory, {day.isoformat() for day in todo.scope.new or ()})
    fresh = judge(context, todo, Lookups(blocked=blocked), todo.new_readings).rows if todo.new_readings else None
    if fresh is not None:
        scratch = context.run_directory / "scratch" / STATISTICS
        value_histograms(fresh, outliers).write.partitionBy("arrival_date").parquet(spark_path(scratch))
        for folder in sorted(scratch.glob("arrival_date=*")):
            for number, file in enumerate(sorted(folder.glob("*.parquet"))):
                file.rename(directory / f"{folder.name.partition('=')[2]}.part-{number:05d}.parquet")
    schema = "item_id string, kind string, bin int, count bigint"
    read = context.spark.read.schema(schema).parquet(spark_path(directory))
    day = F.to_date(F.substring_index(F.col("_metadata.file_name"), ".", 1))
    counted = read.select("*", day.alias("arrival_date"))
    if todo.scope.days:  # what the weeks of these days need, no more
        counted = counted.where(F.col("arrival_date") >= F.date_sub(F.lit(todo.scope.days[0]), outliers.days + 7))
    usual = context.run_directory / "scratch" / "bounds"
    bounds(counted, outliers).write.parquet(spark_path(usual))
    return broadcast_when_small(context.spark.read.parquet(spark_path(usual)))
