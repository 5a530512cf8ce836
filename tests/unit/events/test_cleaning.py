from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import UserError
from recsys_spark.events import cleaning
from recsys_spark.events.predicates import REJECTED, compared_as_double, with_rejections
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


def told(commit: Commit) -> dict[str, Any]:
    """The quality report of a run."""
    content: dict[str, Any] = json.loads((commit.path("quality") / "report.json").read_text())
    return content


def test_the_report_reconciles_and_says_what_the_events_are(cleaned: tuple[Shop, Commit]) -> None:
    commit = cleaned[1]
    report = told(commit)
    expected = {
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
    assert {name: report[name] for name in expected} == expected
    assert {name: report[name] for name in commit.facts["report"]} == commit.facts["report"]
    assert commit.facts["newest_event"] == "2024-01-01T09:00:00"
    assert json.loads(cleaned[0].tracked.artifacts["quality/report.json"]) == report
    assert commit.tables == {"clean_events": 10, "quarantine": 10}


@pytest.mark.parametrize(
    ("reject", "message"),
    [
        ("Quantity <<< 0", "reject.r .* cannot be used"),
        ("Colour = 'red'", "reject.r .*Colour"),
        ("Quantity + 1", "not a condition"),
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


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("x <= 0 AND 5<Y OR x BETWEEN 1 AND 2", "x <= 0D AND 5D<Y OR x BETWEEN 1D AND 2D"),
        ("x <= - 1 OR x > +5 OR x NOT BETWEEN -1 AND (2)", "x <= - 1D OR x > +5D OR x NOT BETWEEN -1D AND (2D)"),
        ("`my col` <=> 1 OR `a``b` != 2 OR NOT x<>3", "`my col` <=> 1D OR `a``b` != 2D OR NOT x<>3D"),
        (r"x = r'\' AND x <= 0 AND y = 'x <= 0'", r"x = r'\' AND x <= 0D AND y = 'x <= 0'"),
        ("x > 0 -- x > 0", "x > 0D -- x > 0"),
        ("x = 123456789012345 OR x = 1234567890123456", "x = 123456789012345D OR x = 1234567890123456"),
        ("CAST(x AS INT) & 1 = 1", None),
        ("CAST(x AS INT) div 2 = 1", None),
        ("exists(split(x, ','), t -> 1 = CAST(t AS INT)) OR forall(split(x, ','), x -> x > 1)", None),
        ("whole <= 0 OR x >= 1.5 OR x = 5L OR x IN (1, 2) OR substring(x, 1, 5) = '5 > 3'", None),
    ],
)
def test_only_whole_numbers_compared_with_a_text_column_are_written_as_doubles(
    spark: SparkSession, written: str, compared: str | None
) -> None:
    frame = spark.createDataFrame([], "x string, y string, `my col` string, `a``b` string, whole bigint")
    rewritten = compared_as_double(frame, written)
    assert rewritten == (compared or written)
    frame.where(rewritten).schema  # noqa: B018 Spark takes it


@pytest.mark.parametrize(
    ("predicate", "rejected"),
    [
        ("v <= 0", ["0", "-1"]),  # and not 0.5, nor text
        ("v BETWEEN 1 AND 2", []),
        ("v = 12345678901234567", ["12345678901234567"]),  # a double could not tell it from ...568
        ("CAST(v AS INT) & 1 = 1", ["-1"]),
    ],
)
def test_predicates_over_text_mean_what_they_say(spark: SparkSession, predicate: str, rejected: list[str]) -> None:
    values = ["0", "0.5", "-1", "x", "12345678901234567", "12345678901234568"]
    frame = spark.createDataFrame([(value,) for value in values], "v string")
    rows = with_rejections(frame, {"r": predicate}, "source").where(REJECTED).collect()
    assert [row["v"] for row in rows] == rejected


def test_a_packages_csv_is_judged_as_any_other_csv(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "a_shops_data"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.csv").write_text(f"{HEADER}\n{GOOD[1]}\nu,i,1/1/2024 8:00,N1,1,0\n")
    monkeypatch.syspath_prepend(tmp_path)
    shop = Shop(spark, tmp_path, source={**SALES, "format": "package", "path": "a_shops_data/a.csv"})
    assert told(shop.run("clean_events", cleaning.run))["rejects_by_reason"] == {"free": 1}


def shop_of(spark: SparkSession, folder: Path, kinds: list[str], **source: Any) -> Shop:
    """One event of each of the kinds."""
    lines = [f"u,i{place},2024-01-01,{kind}" for place, kind in enumerate(kinds)]
    (folder / "a.csv").write_text("\n".join(["user,item,time,kind", *lines]) + "\n")
    columns = {"user_id": "user", "item_id": "item", "event_time": "time", "event_type": "kind"}
    if "event_type" in source:
        del columns["event_type"]
    common = {"format": "csv", "path": f"{folder}/a.csv", "options": {"header": "true"}, "columns": columns}
    return Shop(spark, folder, source={**common, **source})


@pytest.mark.parametrize(
    ("source", "met"),
    [
        ({"event_type": "bought"}, "'bought' .2."),
        ({"event_types": {"b": "bought", "s": "sold"}}, "'bought' .1., 'sold' .1."),
        ({}, "'b' .1., 's' .1."),
    ],
)
def test_a_log_of_which_no_event_type_is_known_is_refused(
    spark: SparkSession, tmp_path: Path, source: dict[str, Any], met: str
) -> None:
    shop = shop_of(spark, tmp_path, ["b", "s"], **source)
    with pytest.raises(UserError, match=rf"a\.csv: no event is of a known type, only of {met}; known are other, view"):
        shop.run("clean_events", cleaning.run)


def test_unknown_event_types_beside_known_ones_are_told_and_kept(spark: SparkSession, tmp_path: Path) -> None:
    shop = shop_of(spark, tmp_path, ["purchase", "gift", "loan", "gift"])
    report = told(shop.run("clean_events", cleaning.run))
    assert report["event_types"] == {"purchase": 1, "other": 3}
    lines = [line for line in shop.told if "unknown types" in line]
    assert len(lines) == 1
    assert "'gift' (2), 'loan' (1); known are" in lines[0]


def test_a_file_that_is_broken_inside_is_quarantined_and_the_rest_goes_on(spark: SparkSession, tmp_path: Path) -> None:
    lines = [f"user{row},item{row * 7919 % 9973},2024-01-01" for row in range(20_000)]
    whole = gzip.compress("\n".join(["a,b,c", *lines]).encode())
    (tmp_path / "cut off.csv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "good.csv").write_text("\n".join(["a,b,c", *lines[:3]]))
    columns = {"user_id": "a", "item_id": "b", "event_time": "c"}
    source = {"format": "csv", "path": f"{tmp_path}/*.csv*", "options": {"header": "true"}, "columns": columns}
    shop = Shop(spark, tmp_path, source={**source, "event_type": "purchase"})
    commit = shop.run("clean_events", cleaning.run)

    report = told(commit)
    assert (report["rows_in"], report["clean"], report["quarantined"]) == (4, 3, 1)
    assert report["broken_files"]["count"] == 1
    row = shop.table("quarantine").collect()[0]
    assert row["source_file"] == f"{tmp_path}/cut%20off.csv.gz"
    assert row["reasons"] == ["broken_file"]
    assert "Unexpected end of input stream" in row["raw"]


def test_a_log_of_which_every_file_is_broken_is_one_line_that_names_one(spark: SparkSession, tmp_path: Path) -> None:
    whole = gzip.compress("\n".join(["a,b,c", *["u,i,2024-01-01"] * 50_000]).encode())
    (tmp_path / "cut off.csv.gz").write_bytes(whole[: len(whole) // 2])
    columns = {"user_id": "a", "item_id": "b", "event_time": "c"}
    source = {"format": "csv", "path": f"{tmp_path}/*.gz", "options": {"header": "true"}, "columns": columns}
    shop = Shop(spark, tmp_path, source={**source, "event_type": "purchase"})
    with pytest.raises(UserError, match=rf"^{tmp_path}/cut off\.\S+: cannot be read \(.+\); replace it") as error:
        shop.run("clean_events", cleaning.run)
    assert "\n" not in str(error.value)


def test_text_in_another_encoding_does_not_stop_the_job(spark: SparkSession, tmp_path: Path) -> None:
    lines = [{"u": "café", "i": "i", "t": "2024-01-01"}, {"u": "u", "i": "i", "t": "2024-01-01"}]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    columns = {"user_id": "u", "item_id": "i", "event_time": "t"}
    source = {"format": "json", "path": f"{tmp_path}/a.json", "columns": columns, "event_type": "purchase"}
    shop = Shop(spark, tmp_path, source=source)
    commit = shop.run("clean_events", cleaning.run)
    assert pq.read_table(commit.path("clean_events"))["user_id"].to_pylist() == ["u"]
    assert pq.read_table(commit.path("quarantine"))["reasons"].to_pylist() == [["bad_encoding"]]
    assert "caf\ufffd" in pq.read_table(commit.path("quarantine"))["raw"].to_pylist()[0]


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
