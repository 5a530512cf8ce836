"""Stage clean_events: from the configured sources to clean events, quarantine and the quality report."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config import Config
from recsys_spark.config.cleaning import Cleaning
from recsys_spark.errors import UserError
from recsys_spark.events.broken import BrokenFile, Checked, check_files, file_errors
from recsys_spark.events.bucket import ARRIVED, Writing, clean_bucket
from recsys_spark.events.judging import STATISTICS, judge, lookups_of
from recsys_spark.events.layout import carry, time_span
from recsys_spark.events.oddities import catalogue_oddities, distinct_items, spelling_oddities
from recsys_spark.events.plan import Plan, plan
from recsys_spark.events.publication import QUALITY, publish_report, summary
from recsys_spark.events.quarantine import QuarantineFiles, split_bad
from recsys_spark.events.report.counts import COUNTS, rejects_by_reason_and_day, summed
from recsys_spark.events.report.counts import SCHEMA as COUNTED
from recsys_spark.events.report.expectations import check_reasons
from recsys_spark.events.report.report import RunFacts, build_report, iso_time
from recsys_spark.events.rows import BETWEEN, FILE, HASH, ORDER, RAW, WHY
from recsys_spark.events.rules.groups import GROUP_REASONS, group_rules_on
from recsys_spark.events.rules.lookups import Lookups
from recsys_spark.events.rules.rows import REASONS
from recsys_spark.events.sources import Broken
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.tables.location import spark_path

GOOD = ("user_id", "item_id", "event_type", "event_time", "quantity", "price", "order_id", FILE, ORDER, HASH)
"""Columns of a good row that cross the shuffle; in daily mode arrival_date too."""
SPLITS = ("spark.sql.files.maxPartitionBytes", "spark.sql.files.openCostInBytes")
PIECE = 16 << 20
"""Bytes of a file that a task reads, some hundred thousand events."""
SHOWN_TYPES = 10
"""Unknown event types that are named in a message."""
ROWS = "rows"
"""Under this name a bucket counts the rows that came into it."""
BROKEN = "broken_file"
"""The reason of a file that could not be read; the cause stands in the place of the row's text."""
Batches = Iterable[pa.RecordBatch]


def run(context: StageContext) -> StageResult:
    """Write clean_events, quarantine and the directory quality.

    Rows pass once: they are read, judged, shuffled by user, and finished in their bucket. Only where a group rule
    rejects rows is the source read once more, for their text, and wholly where a file turns out to be broken inside.
    Raises UserError where there is no row, or none that can be used, where no event is of a known type, or where an
    expectation is not met, and RuntimeError where counts do not reconcile.
    """
    check_reasons(context.config.quality, _known_reasons(context.config))
    todo = plan(context)
    if todo.nothing_new:
        return _as_before(context, todo)
    while True:
        try:
            with file_errors(), _even_pieces(context.spark, todo.daily or group_rules_on(context.config.cleaning)):
                report = _write(context, todo)
            break
        except BrokenFile as error:
            # All of them are looked for at once: else each would cost a run.
            todo = _without_broken(context, todo, error)
            for path in context.run_directory.iterdir():
                shutil.rmtree(path)
    metrics = publish_report(context, report)
    if report["unknown_event_types"]:
        context.progress(f"events of unknown types count as other: {_named(report['unknown_event_types'])}")
    shutil.rmtree(context.run_directory / "scratch", ignore_errors=True)
    span = time_span(context.run_directory / "clean_events")
    newest = None if span is None else iso_time(span[1])
    return StageResult(metrics=metrics, facts={**todo.facts, "newest_event": newest, "report": summary(report)})


@contextmanager
def _even_pieces(spark: SparkSession, wanted: bool) -> Iterator[None]:
    """Where files are read again, or among others, cut each into the same pieces, and give each a task of its own.

    A row's place (ORDER) is counted within its task: it is then the same in every run that reads its file.
    """
    before = {name: spark.conf.get(name) for name in SPLITS} if wanted else {}
    try:
        for name in before:
            spark.conf.set(name, str(PIECE))
        yield
    finally:
        for name, value in before.items():
            spark.conf.set(name, str(value))


def _as_before(context: StageContext, todo: Plan) -> StageResult:
    """The version before once more: nothing has arrived."""
    before = context.previous
    assert before is not None, "there is a version to take over"
    for name in ("clean_events", "quarantine"):
        carry(before.path(name), context.new_table_directory(name), ())
        context.finish_table(name)
    for name in (QUALITY, STATISTICS):
        if before.path(name).is_dir():
            shutil.copytree(before.path(name), context.run_directory / name)
    context.progress("nothing has arrived since the last version")
    facts = {name: before.facts[name] for name in ("newest_event", "report")}
    return StageResult(metrics=before.metrics, facts={**todo.facts, **facts})


def _write(context: StageContext, todo: Plan) -> dict[str, Any]:
    """Write both tables; returns the report."""
    scratch = context.new_directory("scratch")
    some = any(reading.files is None or reading.files for reading in todo.readings)
    lookups = lookups_of(context, todo) if some else Lookups()
    judged = judge(context, todo, lookups) if some else None
    clean = context.new_table_directory("clean_events")
    quarantine = context.new_table_directory("quarantine")
    counts: list[tuple[Any, str, float]] = []
    rows_in = 0
    new = todo.scope.new
    # What was broken on an earlier day stands in the quarantine of that day.
    broken = tuple(each for each in (judged.broken if judged else ()) if new is None or each.arrival in new)
    if judged is not None:
        if judged.rows is not None:
            rows_in, counts = _pass(context, todo, judged.rows, lookups, scratch)
        rows_in += _broken_rows(context, broken, quarantine)
        _require_some(context, todo, rows_in, counts)
    rejects = _rejects(context)
    items = distinct_items(context, scratch / "items")
    if todo.previous is not None:
        carry(todo.previous / "clean_events", clean, todo.replaced)
        carry(todo.previous / "quarantine", quarantine, todo.replaced)
    context.finish_table("clean_events")
    context.finish_table("quarantine")
    span = time_span(clean)
    facts = RunFacts(
        rows_in=rows_in,
        items=items,
        first=span[0] if span else None,
        newest=span[1] if span else None,
        run_days=todo.days_so_far,
        source_files=sum(len(reading.files) for reading in todo.readings if reading.files is not None) or None,
        broken_files=[(each.name, each.reason) for each in broken],
        schemas=judged.schemas if judged else {},
        catalogue_conflicts=catalogue_oddities(context),
        spelling_collisions=spelling_oddities(context, scratch / "items"),
    )
    return build_report(counts, rejects, facts)


def _pass(
    context: StageContext, todo: Plan, judged: DataFrame, lookups: Lookups, scratch: Path
) -> tuple[int, list[tuple[Any, str, float]]]:
    """The one pass over all rows; returns how many there were, and the counts of what became of them."""
    cleaning, daily = context.config.cleaning, todo.daily
    clean, rejected, items = context.run_directory / "clean_events", scratch / "rejected", scratch / "items"
    for path in (rejected, items):
        path.mkdir()
    good = [*GOOD, ARRIVED] if daily else list(GOOD)
    writing = Writing(str(clean), str(rejected), str(items), todo.scope.days, cleaning)
    place = context.run_directory / "quarantine"
    late, ahead, run_id = cleaning.lateness_days, cleaning.days_early, context.run_id

    def finish(batches: Batches) -> Iterator[pa.RecordBatch]:
        task = TaskContext.get()
        assert task is not None, "this runs in a task"
        number = task.partitionId()
        unusable = QuarantineFiles(place, f"rows-{number:04d}", run_id, late, ahead, daily)
        came = 0

        def usable() -> Iterator[pa.RecordBatch]:
            nonlocal came
            for batch in batches:
                fine, bad = split_bad(batch, good)
                unusable.add(bad)
                came += bad.num_rows + writing.rows_of_days(fine)
                yield fine

        yield from clean_bucket(usable(), number, writing)
        unusable.close()
        yield pa.RecordBatch.from_pydict({"day": [None], "name": [ROWS], "value": [float(came)]}, COUNTED)

    # Unusable rows without a user are spread; for all others this is the hash of user_id.
    bucket = F.coalesce("user_id", F.col(ORDER).cast("string"))
    sent = _within(judged, todo, cleaning).select(*good, "bad", RAW, WHY).repartition(todo.buckets, bucket)
    found = summed(sent.mapInArrow(finish, COUNTS)).collect()
    counts = [(row["day"], row["name"], row["value"]) for row in found]
    if any(rejected.iterdir()):
        again = judge(context, todo, lookups, texts=True).rows
        assert again is not None, "they were read before"
        _reject_groups(context, todo, again, rejected)
    return int(sum(value for _, name, value in counts if name == ROWS)), counts


def _within(judged: DataFrame, todo: Plan, cleaning: Cleaning) -> DataFrame:
    """The rows that the run writes, and the good ones that group rules look at besides."""
    if todo.scope.days is None:
        return judged
    days, looked_at, new = (list(each or ()) for each in (todo.scope.days, todo.scope.looked_at, todo.scope.new))
    delay = F.date_diff("arrival_date", "event_date").between(-cleaning.days_early, cleaning.lateness_days)
    in_time = F.coalesce(delay, F.lit(False))
    written = (in_time & F.col("event_date").isin(days)) | (~in_time & F.col("arrival_date").isin(new))
    looked = ~F.col("bad") & in_time & F.col("event_date").isin(looked_at)
    return judged.where(written | looked)


def _reject_groups(context: StageContext, todo: Plan, judged: DataFrame, rejected: Path) -> None:
    """Put the rows that group rules rejected into quarantine, with their text from the source."""
    cleaning, daily, run_id = context.config.cleaning, todo.daily, context.run_id
    late, ahead = cleaning.lateness_days, cleaning.days_early
    place = context.run_directory / "quarantine"
    schema = f"{FILE} string, {ORDER} bigint, {HASH} bigint, group_reasons array<string>"
    keys = context.spark.read.schema(schema).parquet(spark_path(rejected))
    arrived = [F.col(ARRIVED)] if daily else []
    rows = judged.join(keys, on=[FILE, ORDER, HASH], how="inner").select(
        F.col(FILE),
        RAW,
        F.concat_ws(BETWEEN, "group_reasons").alias(WHY),
        "event_time",
        *arrived,
    )

    def put(batches: Batches) -> Iterator[pa.RecordBatch]:
        task = TaskContext.get()
        assert task is not None, "this runs in a task"
        files = QuarantineFiles(place, f"groups-{task.partitionId():04d}", run_id, late, ahead, daily)
        count = 0
        for batch in batches:
            files.add(batch)
            count += batch.num_rows
        files.close()
        yield pa.RecordBatch.from_pydict({"rows": pa.array([count], pa.int64())})

    written = rows.mapInArrow(put, "rows bigint").agg(F.sum("rows")).collect()[0][0] or 0
    expected = keys.count()
    if written != expected:
        raise RuntimeError(
            f"{expected} rows were rejected, {written} of them found again: the source changed meanwhile"
        )


def _broken_rows(context: StageContext, broken: tuple[Broken, ...], directory: Path) -> int:
    """An entry in quarantine for each broken file; their number (bounded by the number of files)."""
    if not broken:
        return 0
    daily = context.config.daily
    files = QuarantineFiles(directory, "files", context.run_id, 0, 0, daily)
    columns = {
        FILE: pa.array([each.name for each in broken], pa.string()),
        RAW: pa.array([each.reason for each in broken], pa.string()),
        WHY: pa.array([BROKEN] * len(broken), pa.string()),
        "event_time": pa.nulls(len(broken), pa.timestamp("us", tz="UTC")),
    }
    if daily:
        columns[ARRIVED] = pa.array([each.arrival for each in broken], pa.date32())
    files.add(pa.RecordBatch.from_pydict(columns))
    files.close()
    for each in broken:
        context.progress(f"quarantined as a whole: {each.name}: {each.reason}")
    return len(broken)


def _without_broken(context: StageContext, todo: Plan, error: BrokenFile) -> Plan:
    """The plan without the files that cannot be read. Raises the error where none is found or none is left."""
    checked = {}
    for reading in todo.readings:
        files = reading.listed if reading.files is None else reading.files
        none = Checked(files or (), ())
        checked[reading.key] = check_files(context.spark, reading.source, files) if files else none
    better = todo.with_files(checked)
    if better.readings == todo.readings or not any(each.files for each in better.readings):
        raise error
    return better


def _rejects(context: StageContext) -> list[tuple[Any, str | None, int]]:
    """Quarantined rows of this run by reason and day: bounded by days x reasons."""
    if not any((context.run_directory / "quarantine").glob("*.parquet")):
        return []
    rows = rejects_by_reason_and_day(context.written_table("quarantine")).collect()
    return [(row["day"], row["reason"], row["count"]) for row in rows]


def _require_some(context: StageContext, todo: Plan, rows_in: int, counts: list[tuple[Any, str, float]]) -> None:
    """Raise UserError where there is nothing to publish at all."""
    paths = ", ".join(path for reading in todo.readings for path in reading.source.paths)
    if not rows_in and todo.previous is None:
        raise UserError(f"source {paths}: there are no rows in it; check path and options")
    kept = {name: sum(int(value) for _, of, value in counts if of == name) for name in ("clean", "type:other")}
    if rows_in and not kept["clean"]:
        reasons: dict[str, int] = {}
        for _, reason, count in _rejects(context):
            if reason is not None:
                reasons[reason] = reasons.get(reason, 0) + int(count)
        met = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        raise UserError(f"source {paths}: none of {rows_in} rows can be used ({met}); check columns and formats")
    if kept["clean"] and kept["clean"] == kept["type:other"]:
        unknown = {name.partition(":")[2]: value for _, name, value in counts if name.startswith("unknown_type:")}
        raise UserError(f"source {paths}: no event is of a known type, only of {_named(unknown)}")


def _known_reasons(config: Config) -> set[str]:
    """Every reason that a row of these sources can have."""
    joins = [f"without_{join.name}" for source in config.source for join in source.join]
    return {*REASONS, *GROUP_REASONS, BROKEN, *joins, *(name for source in config.source for name in source.reject)}


def _named(unknown: dict[str, Any]) -> str:
    """The types that are not in EVENT_TYPES, the most frequent first, and what to do about them."""
    ordered = sorted(unknown.items(), key=lambda entry: (-entry[1], entry[0]))
    names = [f"{name!r} ({int(count):,})" for name, count in ordered[:SHOWN_TYPES]]
    more = " and more" if len(ordered) > SHOWN_TYPES else ""
    return f"{', '.join(names)}{more}; known are {', '.join(EVENT_TYPES)}: set event_type or event_types accordingly"
