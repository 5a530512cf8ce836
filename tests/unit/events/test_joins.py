from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from recsys_spark.config.sources import Source
from recsys_spark.errors import UserError
from recsys_spark.events.predicates import REJECTIONS, check_predicates, with_rejections
from recsys_spark.events.rows import HASH, MISSING_JOINS
from recsys_spark.events.sources import read_source

CSV = {"format": "csv", "options": {"header": "true"}}


def shop(folder: Path, **changes: Any) -> Source:
    """Order lines with their headers and payments."""
    (folder / "lines.csv").write_text("order,sku,pieces\n1,a,2\n1,b,1\n 2 ,a,1\n3,c,1\n,d,1\n4,e,1\n")
    (folder / "orders.csv").write_text("number,customer,placed\n1,u1,2024-01-05\n2,u2,2024-01-06\n3,u3,2024-01-07\n")
    (folder / "payments.csv").write_text("of_order,state,at\n1,open,1\n1,paid,3\n1,failed,2\n2,open,1\n,paid,1\n")
    headers = {"user": "customer", "placed": "placed"}
    joins = [
        {"name": "orders", "path": str(folder / "orders.csv"), "on": {"ORDER": "number"}, "columns": headers} | CSV,
        {
            "name": "payments",
            "path": str(folder / "payments.csv"),
            "on": {"order": "of_order"},
            "columns": {"payment_status": "state"},
            "newest_by": "at",
        }
        | CSV,
    ]
    settings: dict[str, Any] = {
        **CSV,
        "path": str(folder / "lines.csv"),
        "columns": {"user_id": "user", "item_id": "sku", "event_time": "placed", "quantity": "pieces"},
        "event_type": "purchase",
        "reject": {"unpaid": "payment_status <> 'paid'"},
        "join": [{**join, **changes.pop(join["name"], {})} for join in joins],  # type: ignore[dict-item]
    }
    return Source(**{**settings, **changes})


def test_order_lines_get_their_header_and_the_newest_of_their_payments(spark: SparkSession, tmp_path: Path) -> None:
    config = shop(tmp_path, orders={"required": True}, payments={"required": True})
    raw = read_source(spark, config, check=lambda frame, where: check_predicates(frame, config.reject, where))
    judged = with_rejections(raw.frame, config.reject, "source")
    rows = judged.select("sku", "user", "placed", "payment_status", REJECTIONS, MISSING_JOINS).collect()
    assert sorted(tuple(row) for row in rows) == [
        ("a", "u1", "2024-01-05", "paid", "", []),
        ("a", "u2", "2024-01-06", "open", "unpaid", []),
        ("b", "u1", "2024-01-05", "paid", "", []),
        ("c", "u3", "2024-01-07", None, "", ["payments"]),
        ("d", None, None, None, "", ["orders", "payments"]),
        ("e", None, None, None, "", ["orders", "payments"]),
    ]


def test_without_newest_by_the_last_row_counts_and_nothing_is_required(spark: SparkSession, tmp_path: Path) -> None:
    frame = read_source(spark, shop(tmp_path, payments={"newest_by": None})).frame
    assert MISSING_JOINS not in frame.columns
    assert sorted(str(row["payment_status"]) for row in frame.collect()) == sorted(
        ["failed", "failed", "open", *["None"] * 3]
    )


def test_what_is_joined_does_not_change_the_hash_of_a_row(spark: SparkSession, tmp_path: Path) -> None:
    joined = read_source(spark, shop(tmp_path)).frame
    columns = {"user_id": "order", "item_id": "sku", "event_time": "order"}
    alone = read_source(spark, shop(tmp_path, join=(), reject={}, columns=columns)).frame
    assert sorted(row[HASH] for row in joined.collect()) == sorted(row[HASH] for row in alone.collect())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orders": {"on": {"nr": "number"}}}, "join orders, on: no column 'nr'; there are order, sku, pieces"),
        ({"orders": {"on": {"order": "nr"}}}, "join orders, on: no column 'nr'; there are number, customer, placed"),
        ({"orders": {"columns": {"user": "who", "placed": "placed"}}}, "join orders: no column 'who'"),
        ({"orders": {"columns": {"user": "customer", "placed": "placed", "SKU": "placed"}}}, "a column 'SKU' already"),
        ({"payments": {"newest_by": "when"}}, "payments, newest_by: no column 'when'"),
        ({"orders": {"path": "/no/such/file.csv"}}, "there is no such file"),
        ({"columns": {"user_id": "who", "item_id": "sku", "event_time": "placed"}}, "no column 'who' .columns.user_id"),
    ],
)
def test_columns_that_are_not_there_are_named(
    spark: SparkSession, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_source(spark, shop(tmp_path, **changes))


def test_a_joined_file_that_cannot_be_read_stops_the_run(spark: SparkSession, tmp_path: Path) -> None:
    config = shop(tmp_path, orders={"path": str(tmp_path / "orders*")})
    (tmp_path / "orders2.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(UserError, match=r"join orders: .*orders2\.csv\.gz: it cannot be read"):
        read_source(spark, config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"payments": {"name": "orders"}}, "same name"),
        ({"payments": {"columns": {"User": "state"}}}, "same name"),
        ({"payments": {"arrival": {"modified": True}}}, "told by the source"),
        ({"payments": {"name": "Late payments"}}, "name"),
        ({"payments": {"on": {}}}, "on"),
    ],
)
def test_joins_that_cannot_be_meant_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        shop(tmp_path, **changes)
