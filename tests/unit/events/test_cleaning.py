from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import UserError
from recsys_spark.events import cleaning
from recsys_spark.events.predicates import compared_as_double
from tests.stages import Shop

HEADER = "CustomerID,StockCode,InvoiceDate,InvoiceNo,Quantity,UnitPrice"
SOURCE = {
    "format": "csv",
    "options": {"header": "true"},
    "columns": {
        "user_id": "customerid",
        "item_id": "StockCode",
        "event_time": "InvoiceDate",
        "order_id": "InvoiceNo",
        "quantity": "Quantity",
        "price": "UnitPrice",
    },
    "event_type": "purchase",
    "timestamp_format": "M/d/yyyy H:mm",
    "reject": {"cancelled": "InvoiceNo LIKE 'C%'", "free": "UnitPrice <= 0"},
}


def shop(spark: SparkSession, tmp_path: Path, *lines: str, **changes: Any) -> Shop:
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return Shop(spark, tmp_path, source={**SOURCE, "path": f"{tmp_path}/*.csv", **changes})


def clean_rows(made: Shop, *columns: str) -> list[tuple[Any, ...]]:
    frame = made.table("clean_events").orderBy("source_file", "source_order")
    return [tuple(row) for row in frame.select(*columns).collect()]


def test_good_rows_become_typed_events(spark: SparkSession, tmp_path: Path) -> None:
    made = shop(spark, tmp_path, ' 17850 ,"85123A",12/1/2010 8:26,536365,6,2.55', "17850,71053,12/1/2010 18:05,,,")
    made.run("clean_events", cleaning.run)
    columns = ("user_id", "item_id", "event_type", "event_time", "quantity", "price", "order_id")
    assert clean_rows(made, *columns) == [
        ("17850", "85123A", "purchase", datetime(2010, 12, 1, 8, 26), 6.0, 2.55, "536365"),
        ("17850", "71053", "purchase", datetime(2010, 12, 1, 18, 5), None, None, None),
    ]


def test_every_reason_of_a_bad_row_stands_in_quarantine_beside_its_text(spark: SparkSession, tmp_path: Path) -> None:
    made = shop(
        spark,
        tmp_path,
        "u,i,1/1/2024 8:00,N1,1,2.5",
        ",i,1/1/2024 8:00,N1,1,2.5",
        "u,  ,1/1/2024 8:00,C1,1,2.5",
        "u,i,2024-01-01,N1,x,1e999",
        "u,i,1/1/2024 8:00",
        "u,i,1/1/2024 8:00,N1,1,2.5,more",
        "u,i,1/1/2024 8:00,N1,1,0",
    )
    made.run("clean_events", cleaning.run, run_id="the run")
    found = [tuple(row) for row in made.table("quarantine").select("raw", "reasons", "run_id").collect()]
    reasons = {raw: sorted(why) for raw, why, _ in found}
    assert sorted(map(tuple, reasons.values())) == sorted(
        [
            ("missing_user_id",),
            ("cancelled", "missing_item_id"),
            ("bad_event_time", "bad_price", "bad_quantity"),
            ("malformed_row",),
            ("malformed_row",),
            ("free",),
        ]
    )
    assert reasons["u,i,1/1/2024 8:00,N1,1,2.5,more"] == ["malformed_row"]
    assert {run for *_, run in found} == {"the run"}
    assert len(clean_rows(made, "user_id")) == 1


def test_exact_copies_are_counted_and_the_first_stays(spark: SparkSession, tmp_path: Path) -> None:
    line = "u,i,1/1/2024 8:00,N1,1,2.5"
    made = shop(spark, tmp_path, line, "u,j,1/1/2024 8:00,N1,1,2.5", line, line, "u,i,1/1/2024 8:00,N1,2,2.5")
    (tmp_path / "b.csv").write_text(f"{HEADER}\n{line}\n")
    commit = made.run("clean_events", cleaning.run)
    assert clean_rows(made, "item_id", "quantity") == [("i", 1.0), ("j", 1.0), ("i", 2.0)]
    assert {Path(name).name for (name,) in clean_rows(made, "source_file")} == {"a.csv"}
    assert commit.facts["report"]["duplicates"] == 3


def test_the_report_reconciles_and_says_what_the_events_are(spark: SparkSession, tmp_path: Path) -> None:
    made = shop(
        spark,
        tmp_path,
        "u,i,1/1/2024 8:00,N1,1,2.5",
        "u,i,1/1/2024 8:00,N1,1,2.5",
        "v,i,1/2/2024 8:00,N2,,2.5",
        "v,j,1/3/2024 9:30,C2,1,2.5",
    )
    commit = made.run("clean_events", cleaning.run)
    report = commit.facts["report"]
    assert report == {
        "rows_in": 4,
        "clean": 2,
        "duplicates": 1,
        "quarantined": 1,
        "rejects_by_reason": {"cancelled": 1},
        "users": 2,
        "items": 1,
        "first_event": "2024-01-01T08:00:00",
        "newest_event": "2024-01-02T08:00:00",
        "event_types": {"purchase": 2},
        "null_shares": {"quantity": 0.5, "price": 0.0, "order_id": 0.0},
    }
    assert commit.facts["newest_event"] == "2024-01-02T08:00:00"
    assert json.loads((commit.path("quality") / "report.json").read_text()) == report
    assert commit.tables == {"clean_events": 2, "quarantine": 1}


def test_event_types_are_mapped_and_unknown_ones_quarantined(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(
        "\n".join(
            json.dumps({"u": 1, "i": 2, "t": time, "kind": kind})
            for time, kind in [
                ("2024-01-01T08:00:00Z", "BUY"),
                ("2024-01-01 10:00:00+02:00", "look"),
                (1704096000, "buy"),
                (1704096000123, "look"),
                ("2024-01-01", "other"),
                ("8:26", "buy"),
            ]
        )
    )
    columns = {"user_id": "u", "item_id": "i", "event_time": "t", "event_type": "kind"}
    types = {"buy": "purchase", "look": "view"}
    log = {"format": "json", "path": f"{tmp_path}/log.json", "columns": columns, "event_types": types}
    made = Shop(spark, tmp_path, source=log)
    commit = made.run("clean_events", cleaning.run)
    eight = datetime(2024, 1, 1, 8)
    assert clean_rows(made, "event_type", "event_time") == [
        ("purchase", eight),
        ("view", eight),
        ("purchase", eight),
        ("view", datetime(2024, 1, 1, 8, 0, 0, 123000)),
    ]
    assert commit.facts["report"]["rejects_by_reason"] == {"unknown_event_type": 1, "bad_event_time": 1}


def test_several_sources_are_one_log(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\nu,i,1/1/2024 8:00,N1,1,2.5\n")
    (tmp_path / "views.csv").write_text("who,what,when\nu,j,2024-01-01T09:00:00\n")
    views = {
        "format": "csv",
        "path": f"{tmp_path}/views.csv",
        "options": {"header": "true"},
        "columns": {"user_id": "who", "item_id": "what", "event_time": "when"},
        "event_type": "view",
    }
    made = Shop(spark, tmp_path, source=[{**SOURCE, "path": f"{tmp_path}/a.csv"}, views])
    commit = made.run("clean_events", cleaning.run)
    assert commit.facts["report"]["event_types"] == {"view": 1, "purchase": 1}


@pytest.mark.parametrize(
    ("reject", "message"),
    [
        ("Quantity <<< 0", "reject.r .* cannot be used"),
        ("Colour = 'red'", "reject.r .*Colour"),
        ("Quantity + 1", "not a condition"),
        ("count(*) > 1", "cannot be used"),
    ],
)
def test_a_predicate_that_cannot_be_used_is_refused_before_anything_is_written(
    spark: SparkSession, tmp_path: Path, reject: str, message: str
) -> None:
    made = shop(spark, tmp_path, "u,i,1/1/2024 8:00,N1,1,2.5", reject={"r": reject})
    with pytest.raises(UserError, match=message) as error:
        made.run("clean_events", cleaning.run)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "workspace").glob("stages/*/runs/*/clean_events"))


def test_predicates_compare_text_as_numbers_and_survive_what_is_none(spark: SparkSession, tmp_path: Path) -> None:
    lines = [f"u,i{number},1/1/2024 8:00,N1,,{price}" for number, price in enumerate(["0.5", "0", "-1", "3"])]
    made = shop(spark, tmp_path, *lines, reject={"free": "UnitPrice <= 0", "odd": "StockCode > 5 AND 1 / UnitPrice > 9"})
    commit = made.run("clean_events", cleaning.run)
    assert clean_rows(made, "price") == [(0.5,), (3.0,)]
    assert commit.facts["report"]["rejects_by_reason"] == {"free": 2}


def test_only_compared_whole_numbers_are_rewritten() -> None:
    text = "x <= 0 AND 5<y OR z BETWEEN 1 AND 2 OR substring(s, 1, 5) = '5 > 3' OR w >= 1.5"
    assert compared_as_double(text) == (
        "x <= 0D AND 5D<y OR z BETWEEN 1D AND 2D OR substring(s, 1, 5) = '5 > 3' OR w >= 1.5"
    )


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        ([], {}, "there are no rows"),
        (["u,i,yesterday,N1,1,2.5"], {}, "none of 1 rows can be used .bad_event_time 1."),
        (["u,i,1/1/2024 8:00,N1,1,2.5"], {"timestamp_format": "QQ nonsense"}, "timestamp_format"),
    ],
)
def test_a_log_without_a_usable_row_is_refused(
    spark: SparkSession, tmp_path: Path, lines: list[str], changes: dict[str, str], message: str
) -> None:
    made = shop(spark, tmp_path, *lines, **changes)
    with pytest.raises(UserError, match=message):
        made.run("clean_events", cleaning.run)
