"""Daily mode: what arrived lands, and a run reads the landed copies of the days that it needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sources import Source
from recsys_spark.errors import UserError
from recsys_spark.events.raw_files import LISTING
from recsys_spark.events.rows import ARRIVAL, INTERNAL
from recsys_spark.events.scans import joined_columns
from recsys_spark.events.sources import RawFile, read_source, source_files
from recsys_spark.tables.landing import Delivered, Landing
from recsys_spark.tables.location import spark_path


def landing_of(workspace: Path, source: Source) -> Landing:
    """Where a source lands: the same place as long as its format and path are the same."""
    return Landing(workspace, json.dumps([source.format, *source.paths]))


def land(
    spark: SparkSession,
    source: Source,
    where: str,
    landing: Landing,
    until: date | None,
    published: Iterable[date],
    force: bool,
    progress: Callable[[str], None],
) -> None:
    """Copy into the landing what the source holds of arrival dates up to `until` and has not landed yet.

    A file that changed after it landed takes its former place where no committed version has taken its date in
    (`published`), or with `force`; else UserError. Raises UserError where a file's arrival date is not known.
    """
    taken_in = set(published)
    if _is_table(source):
        deliveries = _rows(spark, source, where, landing, until)
    else:
        deliveries = _files(spark, source, where)
        if source.arrival is not None and source.arrival.modified:
            _refuse_changed(landing, deliveries, taken_in, force)
    for day in sorted(deliveries):
        if until is not None and day > until:
            continue
        files = deliveries[day]
        if landing.land(day, files, replace=force or day not in taken_in):
            progress(f"{where}: landed {day} ({len(files):,} files)")


def landed_source(source: Source, landing: Landing, days: Sequence[date]) -> tuple[Source, tuple[RawFile, ...]]:
    """How the landed copies of some days are read."""
    files = tuple(
        RawFile(path=spark_path(path), name=name, arrival=day)
        for day in days
        for landed in landing.files(day)
        for path, name in _members(landing.path(day, landed), landed.name)
    )
    if _is_table(source):
        return source.model_copy(update={"format": "parquet", "options": {}}), files
    # What chose the files among others does not know the names and times of their copies.
    options = {key: value for key, value in source.options.items() if key.lower() not in LISTING}
    return source.model_copy(update={"options": options}), files


def _is_table(source: Source) -> bool:
    return source.format in ("table", "jdbc")


def _members(path: Path, name: str) -> list[tuple[Path, str]]:
    """The file, or the Parquet files of a directory that a table's rows landed in."""
    if path.is_file():
        return [(path, name)]
    return [(child, f"{name}#{number}") for number, child in enumerate(sorted(path.glob("*.parquet")))]


def _refuse_changed(
    landing: Landing, deliveries: dict[date, list[Delivered]], taken_in: set[date], force: bool
) -> None:
    """Where the modification date tells the arrival, a file that is changed in place would arrive a second time."""
    stamps = {file.name: file.stamp for files in deliveries.values() for file in files}
    for day in sorted(taken_in if not force else ()):
        for landed in landing.files(day):
            if stamps.get(landed.name, landed.stamp) != landed.stamp:
                raise UserError(
                    f"{landed.name}: changed after it landed for {day}, and tables were made from it; deliver what "
                    "was corrected under another name"
                )


def _files(spark: SparkSession, source: Source, where: str) -> dict[date, list[Delivered]]:
    deliveries: dict[date, list[Delivered]] = {}
    for file in source_files(spark, source, where):
        if file.arrival is None:
            raise UserError(f"{where}: nothing tells when {file.name} arrived; check arrival")
        deliveries.setdefault(file.arrival, []).append(_delivered(spark, file))
    return deliveries


def file_bytes(spark: SparkSession, file: RawFile) -> int:
    """The size of a file on any file system that Spark knows."""
    local = _local(file)
    if local is not None:
        return local.stat().st_size
    remote, system = _remote(spark, file)
    return int(system.getFileStatus(remote).getLen())


def _local(file: RawFile) -> Path | None:
    """The file's path, where Python can open it."""
    if file.path.startswith("file:"):
        return Path("/" + file.path.removeprefix("file:").lstrip("/"))
    return None if "://" in file.path else Path(file.path)


def _remote(spark: SparkSession, file: RawFile) -> tuple[Any, Any]:
    jvm: Any = spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(file.path)
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()
    return path, path.getFileSystem(hadoop)


def _delivered(spark: SparkSession, file: RawFile) -> Delivered:
    local = _local(file)
    if local is not None:
        state, source = local.stat(), local
        return Delivered(file.name, f"{state.st_size} {state.st_mtime_ns}", lambda to: shutil.copyfile(source, to))
    remote, system = _remote(spark, file)
    status = system.getFileStatus(remote)

    def fetch(to: Path) -> None:
        jvm: Any = spark._jvm
        system.copyToLocalFile(False, remote, jvm.org.apache.hadoop.fs.Path(f"file://{to}"), True)

    return Delivered(file.name, f"{status.getLen()} {status.getModificationTime()}", fetch)


def _rows(
    spark: SparkSession, source: Source, where: str, landing: Landing, until: date | None
) -> dict[date, list[Delivered]]:
    """Rows of a table by the date in its arrival column; a date that has landed is not asked for again.

    So a date should be over when it is landed: what the table gains for it later is not seen.
    """
    frame = read_source(spark, source, key=where).frame
    if not frame.where(F.col(ARRIVAL).isNull()).isEmpty():
        raise UserError(f"{where}: some rows have no date in arrival.column; give every row one, or leave them out")
    known = sorted(landing.generations())
    dated = frame.where(F.col(ARRIVAL).isNotNull() & ~F.col(ARRIVAL).isin(known))
    if until is not None:
        dated = dated.where(F.col(ARRIVAL) <= F.lit(until))
    days = [row[0] for row in dated.select(ARRIVAL).distinct().orderBy(ARRIVAL).collect()]
    joined = joined_columns(source)
    own = [name for name in frame.columns if name not in INTERNAL and name not in joined]
    return {day: [_table_rows(dated, own, day, source.paths[0])] for day in days}


def _table_rows(frame: DataFrame, columns: Sequence[str], day: date, name: str) -> Delivered:
    rows = frame.where(F.col(ARRIVAL) == F.lit(day)).select(*[F.col(f"`{column}`") for column in columns])
    return Delivered(f"{name}@{day}", "rows", lambda to: rows.write.parquet(spark_path(to)))


def day_before(end: datetime) -> date:
    """The last whole day before an exclusive end."""
    return (end - timedelta(days=1)).date()
