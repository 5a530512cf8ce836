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
from recsys_spark.tables.pointer import Commit
from tests.stages import Shop

HEADER = "CustomerID,StockCode,InvoiceDate,InvoiceNo,Quantity,UnitPrice"
SALES = {
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
    "reject": {
        "cancelled": "InvoiceNo LIKE 'C%'",
        "free": "UnitPrice <= 0",
        "odd": "StockCode > 5 AND 1 / UnitPrice > 9",  # text that is no number, and nothing to divide by
    },
}
GOOD = [
    ' 17850 ,"85123A, red",12/1/2010 8:26,536365,6,2.55',
    "17850,71053,12/1/2010 18:05,,,0.5",
    "u,i,1/1/2024 8:00,N1,1,2.5",
    "u,j,1/1/2024 8:00,N1,1,2.5",
    "u,i,1/1/2024 8:00,N1,2,2.5",
]
COPY = "u,i,1/1/2024 8:00,N1,1,2.5"
BAD = {
    ",i,1/1/2024 8:00,N1,1,2.5": ["missing_user_id"],
    "u,  ,1/1/2024 8:00,C1,1,2.5": ["missing_item_id", "cancelled"],
    "u,i,2024-01-01,N1,x,1e999": ["bad_event_time", "bad_quantity", "bad_price"],
    "u,i": ["malformed_row", "bad_event_time"],
    "u,i,1/1/2024 8:00,N1,1,2.5,more": ["malformed_row"],
    "u,i,1/1/2024 8:00,N1,1,0": ["free"],
    "u,i,1/1/2024 8:00,N1,1,-1": ["free"],
}
VIEWS = [
    ("2024-01-01T08:00:00Z", "BUY"),
    ("2024-01-01 10:00:00+02:00", "look"),
    (1704096000, "buy"),
    (1704096000123, "look"),
    ("2024-01-01", "other"),
    ("8:26", "buy"),
]


@pytest.fixture(scope="module")
def cleaned(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Commit]:
    """Two CSV files (the second one's columns stand in another order) and a log of JSON lines, cleaned together."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "a.csv").write_text("\n".join([HEADER, *GOOD, COPY, COPY, *BAD]) + "\n")
    swapped = "STOCKCODE,InvoiceDate,InvoiceNo,Quantity,UnitPrice,CustomerID"
    (folder / "b.csv").write_text(f"{swapped}\ni,1/1/2024 8:00,N1,1,2.5,u\nk,1/1/2024 9:00,N2,1,2.5,w\n")
    lines = [json.dumps({"u": 1, "i": 2, "t": time, "kind": kind}) for time, kind in VIEWS]
    (folder / "log.json").write_text("\n".join([*lines, '{"u": 1']))
    log = {
        "format": "json",
        "path": f"{folder}/log.json",
        "columns": {"user_id": "u", "item_id": "i", "event_time": "t", "event_type": "kind"},
        "event_types": {"buy": "purchase", "look": "view"},
    }
    shop = Shop(spark, folder, source=[{**SALES, "path": f"{folder}/*.csv"}, log])
    return shop, shop.run("clean_events", cleaning.run, run_id="the run")


def events(shop: Shop, file: str, *columns: str) -> list[tuple[Any, ...]]:
    frame = shop.table("clean_events")
    frame = frame.where(frame.source_file.endswith(file)).orderBy("source_order")
    return [tuple(row) for row in frame.select(*columns).collect()]


def test_good_rows_become_typed_events_and_copies_go(cleaned: tuple[Shop, Commit]) -> None:
    columns = ("user_id", "item_id", "event_type", "event_time", "quantity", "price", "order_id")
    eight = datetime(2024, 1, 1, 8)
    assert events(cleaned[0], "a.csv", *columns) == [
        ("17850", "85123A, red", "purchase", datetime(2010, 12, 1, 8, 26), 6.0, 2.55, "536365"),
        ("17850", "71053", "purchase", datetime(2010, 12, 1, 18, 5), None, 0.5, None),
        ("u", "i", "purchase", eight, 1.0, 2.5, "N1"),
        ("u", "j", "purchase", eight, 1.0, 2.5, "N1"),
        ("u", "i", "purchase", eight, 2.0, 2.5, "N1"),
    ]


def test_a_copy_in_a_file_of_another_column_order_is_a_copy(cleaned: tuple[Shop, Commit]) -> None:
    assert events(cleaned[0], "b.csv", "user_id", "item_id") == [("w", "k")]


def test_times_and_types_of_a_log_are_read_in_many_forms(cleaned: tuple[Shop, Commit]) -> None:
    eight = datetime(2024, 1, 1, 8)
    assert events(cleaned[0], "log.json", "event_type", "event_time") == [
        ("purchase", eight),
        ("view", eight),
        ("purchase", eight),
        ("view", datetime(2024, 1, 1, 8, 0, 0, 123000)),
    ]


def test_every_reason_of_a_bad_row_stands_beside_it(cleaned: tuple[Shop, Commit]) -> None:
    rows = cleaned[0].table("quarantine").collect()
    assert {row["run_id"] for row in rows} == {"the run"}
    sales = [row for row in rows if row["source_file"].endswith("a.csv")]
    assert sorted(sorted(row["reasons"]) for row in sales) == sorted(sorted(reasons) for reasons in BAD.values())
    text = {row["raw"]: row["reasons"] for row in rows}
    assert text["u,i,1/1/2024 8:00,N1,1,2.5,more"] == ["malformed_row"]
    assert json.loads(next(raw for raw in text if "1e999" in raw)) == {
        "CustomerID": "u",
        "StockCode": "i",
        "InvoiceDate": "2024-01-01",
        "InvoiceNo": "N1",
        "Quantity": "x",
        "UnitPrice": "1e999",
    }
    assert "malformed_row" in text['{"u": 1']


def test_the_report_reconciles_and_says_what_the_events_are(cleaned: tuple[Shop, Commit]) -> None:
    commit = cleaned[1]
    report = commit.facts["report"]
    assert report == {
        "rows_in": 23,
        "clean": 10,
        "duplicates": 3,
        "quarantined": 10,
        "rejects_by_reason": {
            "malformed_row": 3,
            "missing_user_id": 2,
            "missing_item_id": 2,
            "bad_event_time": 4,
            "unknown_event_type": 2,
            "bad_quantity": 1,
            "bad_price": 1,
            "cancelled": 1,
            "free": 2,
        },
        "users": 4,
        "items": 6,
        "first_event": "2010-12-01T08:26:00",
        "newest_event": "2024-01-01T09:00:00",
        "event_types": {"view": 2, "purchase": 8},
        "null_shares": {"quantity": 0.5, "price": 0.4, "order_id": 0.5},
    }
    assert commit.facts["newest_event"] == "2024-01-01T09:00:00"
    assert json.loads((commit.path("quality") / "report.json").read_text()) == report
    assert commit.tables == {"clean_events": 10, "quarantine": 10}


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
    (tmp_path / "a.csv").write_text(f"{HEADER}\n{GOOD[0]}\n")
    shop = Shop(spark, tmp_path, source={**SALES, "path": f"{tmp_path}/a.csv", "reject": {"r": reject}})
    with pytest.raises(UserError, match=message) as error:
        shop.run("clean_events", cleaning.run)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "workspace").glob("stages/*/runs/*/clean_events"))


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
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    shop = Shop(spark, tmp_path, source={**SALES, "path": f"{tmp_path}/a.csv", **changes})
    with pytest.raises(UserError, match=message):
        shop.run("clean_events", cleaning.run)
