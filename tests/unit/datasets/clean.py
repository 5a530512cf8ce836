"""Clean events as their stage lays them down: files by user bucket."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys_spark.datasets import build
from recsys_spark.events.layout import ALL_DAYS, file_name
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.schemas import TABLES
from tests.stages import Shop

Event = tuple[str, str, str, datetime]
CLEAN = pa.schema(
    [
        *[(name, pa.string()) for name in ("user_id", "item_id", "event_type")],
        ("event_time", pa.timestamp("us", tz="UTC")),
        *[(name, pa.float64()) for name in ("quantity", "price")],
        *[(name, pa.string()) for name in ("order_id", "source_file")],
        ("event_date", pa.date32()),
        ("source_order", pa.int64()),
        ("arrival_date", pa.date32()),
    ]
)


def clean_rows(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Rows of the table clean_events, in the order of one file."""
    return [
        {
            "user_id": user,
            "item_id": item,
            "event_type": kind,
            "event_time": time,
            "source_file": "log.csv",
            "event_date": time.date(),
            "source_order": place,
            "arrival_date": time.date(),
        }
        for place, (user, item, kind, time) in enumerate(events)
    ]


def write_file(rows: list[dict[str, Any]], path: Path) -> str:
    """One file of clean events, in its order; its path."""
    order = ("user_id", "event_time", "source_file", "source_order")
    rows = sorted(rows, key=lambda row: tuple(row[name] for name in order))
    pq.write_table(pa.Table.from_pylist(rows, schema=CLEAN), path)
    return str(path)


def write_clean_events(
    spark: SparkSession, rows: list[dict[str, Any]], directory: Path, buckets: int, daily: bool
) -> None:
    """Every file of clean events; the bucket of a user is what Spark says."""
    users = spark.createDataFrame(sorted({(row["user_id"],) for row in rows}), "user_id string")
    placed = users.repartition(buckets, "user_id").select("user_id", F.spark_partition_id().alias("bucket"))
    bucket = {row["user_id"]: row["bucket"] for row in placed.collect()}
    files: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        files[str(row["event_date"]) if daily else ALL_DAYS, bucket[row["user_id"]]].append(row)
    for (day, number), own in files.items():
        write_file(own, directory / file_name(day, number))


def write_features(context: StageContext, rows: list[dict[str, Any]]) -> StageResult:
    """The tables of build_features: ids in the order (first day, string), and every item without a title."""
    first: dict[str, dict[str, str]] = {"user": {}, "item": {}}
    for row in sorted(rows, key=lambda row: row["event_date"]):
        for kind, seen in first.items():
            seen.setdefault(row[f"{kind}_id"], str(row["event_date"]))
    for kind, seen in first.items():
        ids = sorted(seen, key=lambda name: (seen[name], name))
        index = pa.array(range(1, len(ids) + 1), pa.int32())
        columns = {f"{kind}_id": ids, f"{kind}_index": index}
        write_whole(context, f"{kind}_ids", pa.table(columns))
        if kind == "item":
            names = [field.name for field in TABLES["items"].schema]
            nothing = {name: pa.nulls(len(ids), pa.string()) for name in names if name not in columns}
            write_whole(context, "items", pa.table({**columns, **nothing}).select(names))
    return StageResult()


def write_whole(context: StageContext, name: str, table: pa.Table) -> None:
    """A table of one file."""
    pq.write_table(table, context.new_table_directory(name) / "part-0.parquet")
    context.finish_table(name)


def build_shop(
    shop: Shop, rows: list[dict[str, Any]], as_of: datetime, buckets: int, daily: bool = False
) -> tuple[Shop, Commit]:
    """A shop with these clean events, their ids and their datasets."""

    def clean(context: StageContext) -> StageResult:
        directory = context.new_table_directory("clean_events")
        write_clean_events(shop.spark, rows, directory, buckets, daily)
        context.finish_table("clean_events")
        return StageResult(facts={"buckets": buckets})

    shop.run("clean_events", clean)
    shop.run("build_features", lambda context: write_features(context, rows), as_of=as_of)
    return shop, shop.run("build_datasets", build.run, as_of=as_of)
