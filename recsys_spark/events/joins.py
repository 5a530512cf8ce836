"""Columns that other files or tables add to a source's rows: order headers, payments."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.sources import Join, Source
from recsys_spark.errors import UserError
from recsys_spark.events.columns import plain_text
from recsys_spark.events.raw_files import EMPTY, Raw
from recsys_spark.events.rows import CORRUPT, FILE, MISSING_JOINS, ORDER, find_column, own_columns, quoted

Read = Callable[[Join, str], Raw]
"""Reads the rows of a join; the text is what errors call it."""


def with_joins(frame: DataFrame, source: Source, where: str, read: Read) -> DataFrame:
    """Add the columns of `source.join`, one join after the other, and MISSING_JOINS where some are required.

    Keys are compared as text. No row is multiplied or dropped: of several rows with one key the newest counts (by
    `newest_by`, then file and order), and a row without a partner has nulls. Raises UserError where a column is
    missing or taken, or where a joined file cannot be read: what is joined decides about rows, so none of it may lack.
    """
    missing: list[Column] = []
    partners: list[str] = []
    for join in source.join:
        label = f"{where}: join {join.name}"
        raw = read(join, label)
        lost = [file for file in raw.broken if file.reason != EMPTY]
        if lost:
            raise UserError(f"{label}: {lost[0].name}: {lost[0].reason}; joined files must all be readable")
        taken = [name for name in join.columns if find_column(own_columns(frame), name) is not None]
        if taken:
            raise UserError(f"{label}: the source has a column {taken[0]!r} already; give the joined one another name")
        partner, keys = f"_with_{join.name}", [f"_key_{place}" for place in range(len(join.on))]
        right = _newest(raw.frame, join, keys, partner, label)
        named = [_key(frame, ours, f"{label}, on").alias(key) for ours, key in zip(join.on, keys, strict=True)]
        frame = frame.select("*", *named).join(right, on=keys, how="left").drop(*keys)
        if join.required:
            missing.append(F.when(F.col(partner).isNull(), F.lit(join.name)))
        partners.append(partner)
    if missing:
        frame = frame.withColumn(MISSING_JOINS, F.array_compact(F.array(*missing)))
    return frame.drop(*partners)


def _newest(rows: DataFrame, join: Join, keys: list[str], partner: str, label: str) -> DataFrame:
    """One row a key: the keys, the new columns and `partner`, which is true."""
    if CORRUPT in rows.columns:
        rows = rows.where(F.col(CORRUPT).isNull())
    columns = [_column(rows, theirs, label).alias(name) for name, theirs in join.columns.items()]
    newest = [] if join.newest_by is None else [_column(rows, join.newest_by, f"{label}, newest_by")]
    named = [_key(rows, theirs, f"{label}, on").alias(key) for theirs, key in zip(join.on.values(), keys, strict=True)]
    content = rows.select(*named, F.struct(*columns).alias("_new"), F.struct(*newest, FILE, ORDER).alias("_by"))
    known = content.dropna(subset=keys)
    one = known.groupBy(*keys).agg(F.max_by("_new", "_by").alias("_new"))
    return one.select(*keys, *[F.col("_new")[name].alias(name) for name in join.columns], F.lit(True).alias(partner))


def _key(frame: DataFrame, name: str, label: str) -> Column:
    found = find_column(own_columns(frame), name)
    if found is None:
        raise UserError(f"{label}: no column {name!r}; there are {', '.join(own_columns(frame))}")
    return plain_text(quoted(found), frame.schema[found].dataType)


def _column(frame: DataFrame, name: str, label: str) -> Column:
    found = find_column(own_columns(frame), name)
    if found is None:
        raise UserError(f"{label}: no column {name!r}; there are {', '.join(own_columns(frame))}")
    return quoted(found)
