from __future__ import annotations

import gzip
from datetime import date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import UserError
from recsys_spark.events import cleaning
from recsys_spark.features import build
from recsys_spark.features.items import read_catalog
from tests.stages import Shop

SOURCE = {
    "format": "csv",
    "options": {"header": "true"},
    "columns": {"user_id": "user", "item_id": "item", "event_time": "time"},
    "event_type": "purchase",
}
CATALOG = {
    "format": "csv",
    "options": {"header": "true"},
    "columns": {"item_id": "sku", "title": "name", "description": "text", "category": "kind", "price": "Price"},
}


def test_ids_and_items_follow_the_events_before_the_date_and_later_runs_only_append(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("user,item,time\nv,x,2024-01-01\nu,y,2024-01-01\nu,w,2024-01-02\na,a,2024-01-05\n")
    (tmp_path / "items.csv").write_text(
        'SKU,name,kind,text,price\nx,"  A   red\tbox ",,,2.50\nx,another,boxes,t,1\n'
        'unsold,n,k," for  you ",ask\nw,,,,-1e3\n'
    )
    catalog = {**CATALOG, "path": f"{tmp_path}/items.csv"}
    shop = Shop(spark, tmp_path, source={**SOURCE, "path": f"{tmp_path}/a.csv"}, catalog=catalog)
    shop.run("clean_events", cleaning.run)
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
    (tmp_path / "a.csv").write_text("user,item,time\nv,x,2024-01-01\n")
    lines = [f"item{row},name{row * 7919 % 9973}" for row in range(20_000)]
    whole = gzip.compress("\n".join(["sku,name", *lines]).encode())
    (tmp_path / "items.csv.gz").write_bytes(whole[: len(whole) // 2])
    catalog = {**CATALOG, "columns": {"item_id": "sku", "title": "name"}, "path": f"{tmp_path}/items.csv.gz"}
    shop = Shop(spark, tmp_path, source={**SOURCE, "path": f"{tmp_path}/a.csv"}, catalog=catalog)
    shop.run("clean_events", cleaning.run)
    with pytest.raises(UserError, match=rf"^{tmp_path}/items\.csv\.gz: cannot be read"):
        shop.run("build_features", build.run, as_of=datetime(2024, 1, 4))
