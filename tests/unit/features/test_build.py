from __future__ import annotations

import gzip
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from recsys_spark.errors import UserError
from recsys_spark.events.catalogue import read_catalog
from recsys_spark.events.layout import file_name
from recsys_spark.features import build
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.tables.schemas import TABLES
from tests.stages import Shop

SOURCE = {
    "format": "csv",
    "path": "none.csv",
    "columns": {"user_id": "user", "item_id": "item", "event_time": "time"},
    "event_type": "purchase",
}

CATALOG = {
    "format": "csv",
    "options": {"header": "true"},
    "columns": {"item_id": "sku", "title": "name", "description": "text", "category": "kind", "price": "Price"},
}


def with_events(shop: Shop, buckets: list[list[tuple[str, str, date, date]]]) -> Shop:
    """Clean events (user, item, event date, arrival date) by bucket."""

    def write(context: StageContext) -> StageResult:
        directory = context.new_table_directory("clean_events")
        schema = to_arrow_schema(TABLES["clean_events"].schema)
        for number, rows in enumerate(buckets):
            table = schema.empty_table().to_pydict()
            for user, item, day, arrival in rows:
                row = {"user_id": user, "item_id": item, "event_date": day, "arrival_date": arrival}
                row["event_time"] = datetime(day.year, day.month, day.day, 12)
                for name, values in table.items():
                    values.append(row.get(name))
            pq.write_table(pa.table(table, schema), directory / file_name("all", number))
        context.finish_table("clean_events")
        return StageResult()

    shop.run("clean_events", write)
    return shop


def on(day: int) -> date:
    return date(2024, 1, day)


def test_ids_and_items_follow_the_events_before_the_date_and_later_runs_only_append(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "items.csv").write_text(
        'SKU,name,kind,text,price\nx,"  A   red\tbox ",,,2.50\nx,another,boxes,t,1\n'
        'unsold,n,k," for  you ",ask\nw,,,,-1e3\n'
    )
    catalog = {**CATALOG, "path": f"{tmp_path}/items.csv"}
    buckets = [
        [("v", "x", on(1), on(1)), ("a", "a", on(5), on(5))],
        [("u", "y", on(1), on(1)), ("u", "w", on(2), on(2))],
    ]
    shop = with_events(Shop(spark, tmp_path, source=SOURCE, catalog=catalog), buckets)
    first = shop.run("build_features", build.run, as_of=datetime(2024, 1, 4))
    assert sorted(map(tuple, shop.table("user_ids", first).collect())) == [("u", 1), ("v", 2)]
    assert sorted(map(tuple, shop.table("items", first).collect())) == [
        (1, "x", "A red box", None, None, None, 2.5, date(2024, 1, 1)),
        (2, "y", "y", None, None, None, None, date(2024, 1, 1)),
        (3, "w", "w", None, None, None, -1000.0, date(2024, 1, 2)),
        (4, "unsold", "n", "for you", "k", None, None, None),  # in the catalogue, never bought: after those that were
    ]
    second = shop.run("build_features", build.run, as_of=datetime(2024, 1, 6))
    assert sorted(map(tuple, shop.table("user_ids", second).collect())) == [("a", 3), ("u", 1), ("v", 2)]
    assert sorted(map(tuple, shop.table("item_ids", second).collect())) == [
        ("a", 5),
        ("unsold", 4),
        ("w", 3),
        ("x", 1),
        ("y", 2),
    ]
    assert not (Path(second.directory) / "scratch").exists()
    with pytest.raises(UserError, match="no event is before"):
        shop.run("build_features", build.run, as_of=datetime(2023, 1, 1))


def test_without_a_catalogue_there_is_nothing_to_say_of_items(spark: SparkSession) -> None:
    assert read_catalog(spark, None).columns == [
        "item_id",
        "title",
        "description",
        "category",
        "brand",
        "price",
    ]


def test_a_catalogue_that_is_broken_inside_is_named(spark: SparkSession, tmp_path: Path) -> None:
    lines = [f"item{row},name{row * 7919 % 9973}" for row in range(20_000)]
    whole = gzip.compress("\n".join(["sku,name", *lines]).encode())
    (tmp_path / "items.csv.gz").write_bytes(whole[: len(whole) // 2])
    catalog = {**CATALOG, "columns": {"item_id": "sku", "title": "name"}, "path": f"{tmp_path}/items.csv.gz"}
    shop = with_events(Shop(spark, tmp_path, source=SOURCE, catalog=catalog), [[("v", "x", on(1), on(1))]])
    with pytest.raises(UserError, match=rf"^{tmp_path}/items\.csv\.gz: cannot be read"):
        shop.run("build_features", build.run, as_of=datetime(2024, 1, 4))


def test_an_id_whose_event_is_older_but_arrived_later_is_numbered_later_and_shows_its_first_event(
    spark: SparkSession, tmp_path: Path
) -> None:
    buckets = [[("u", "late", on(1), on(3))], [("v", "punctual", on(2), on(2)), ("v", "late", on(2), on(3))]]
    shop = with_events(Shop(spark, tmp_path, source=SOURCE), buckets)
    shop.run("build_features", build.run, as_of=datetime(2024, 1, 4))
    assert dict(map(tuple, shop.table("user_ids").collect())) == {"v": 1, "u": 2}
    items = shop.table("items").select("item_id", "item_index", "first_seen").collect()
    assert sorted(map(tuple, items)) == [("late", 2, on(1)), ("punctual", 1, on(2))]
