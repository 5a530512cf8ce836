from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.config.sources import Source
from recsys_spark.errors import UserError
from recsys_spark.events.columns import with_our_columns
from recsys_spark.events.rows import (
    ARRIVAL,
    BAD_ENCODING,
    CORRUPT,
    FILE,
    HASH,
    MISSING_JOINS,
    ORDER,
    RAW,
    TOO_LONG,
    WHY,
    with_row_text,
    with_text_checks,
)
from recsys_spark.events.rules.lookups import Lookups
from recsys_spark.events.rules.rows import REASONS

COLUMNS = ("u", "i", "k", "t", "q", "p")
SOURCE = Source(
    format="csv",
    path="shop.csv",
    columns=dict(zip(("user_id", "item_id", "event_type", "event_time", "quantity", "price"), COLUMNS, strict=True)),
    reject={"odd": "q = 77"},
)
GOOD = {"u": "ann", "i": "a1", "k": "purchase", "t": "2024-03-05 10:00:00", "q": "1", "p": "2", ARRIVAL: "2024-03-06"}


def raw_rows(spark: SparkSession, *changes: dict[str, Any]) -> DataFrame:
    """Rows as sources give them, each GOOD but for its changes."""
    rows = [{**GOOD, CORRUPT: None, MISSING_JOINS: [], **change} for change in changes]
    columns = [*COLUMNS, ARRIVAL, CORRUPT, MISSING_JOINS]
    types = ", ".join(f"{name} {'array<string>' if name == MISSING_JOINS else 'string'}" for name in columns)
    frame = spark.createDataFrame([tuple(row[name] for name in columns) for row in rows], types).coalesce(1)
    placed = frame.withColumn(ARRIVAL, F.to_date(ARRIVAL)).withColumn(FILE, F.lit("shop.csv"))
    return with_row_text(with_text_checks(placed.withColumn(ORDER, F.monotonically_increasing_id()), SOURCE), 0)


def judged(frame: DataFrame, lookups: Lookups | None = None, **rules: Any) -> list[Any]:
    return with_our_columns(frame, SOURCE, "source", Cleaning.model_validate(rules), lookups).orderBy(ORDER).collect()


STRICT: dict[str, Any] = {
    "earliest": "2020-01-01",
    "future_hours": 1.5,
    "unknown_types": "reject",
    "non_positive_quantity": "reject",
    "max_quantity": 100,
    "negative_price": "reject",
    "max_price": 1000,
    "returns": "reject",
    "test_accounts": ["root"],
    "test_account_patterns": ["^qa-", "(?i)ROBOT$"],
    "forbidden_text": ["(?i)weapon"],
    "item_ids": {"case": "upper", "blanks": "remove"},
}
ALWAYS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"u": None, "i": " "}, ["missing_user_id", "missing_item_id"]),
    ({"t": "yesterday", "k": None}, ["bad_event_time", "unknown_event_type"]),
    ({"q": "many", "p": "dear"}, ["bad_quantity", "bad_price"]),
    ({"q": None, "p": None, ARRIVAL: None}, []),
    ({CORRUPT: "a;b", "q": "77"}, ["malformed_row", "odd"]),
    ({"u": "\ufffd", MISSING_JOINS: ["headers", "payments"]}, ["bad_encoding", "without_headers", "without_payments"]),
    ({MISSING_JOINS: None}, []),
    ({"t": "2024-03-03 00:00:00"}, []),
    ({"t": "2024-03-02 23:59:59"}, ["too_late"]),
    ({"t": "2024-03-06 23:59:59"}, []),
    ({"t": "2024-03-02", ARRIVAL: None}, []),
]
DEFAULT = [
    ({"t": "2024-03-07 00:00:00"}, ["future_time"]),
    ({"q": "-5", "p": "-1"}, []),
    ({"k": "gift"}, []),
    ({"u": "root", "i": "a weapon", "k": "search"}, []),
]
ON_REQUEST = [
    ({"t": "2024-03-07 01:29:59"}, []),
    ({"t": "2024-03-07 01:30:00"}, ["future_time"]),
    ({"t": "2019-12-31 23:59:59"}, ["ancient_time", "too_late"]),
    ({"k": "gift"}, ["unknown_event_type"]),
    ({"k": "Search", "i": "a Weapon"}, ["forbidden_content"]),
    ({"i": "a weapon"}, []),
    ({"q": "0"}, ["non_positive_quantity"]),
    ({"q": "-1"}, ["non_positive_quantity", "return"]),
    ({"k": "return"}, ["return"]),
    ({"q": "-101", "p": "-1", "k": "view"}, ["non_positive_quantity", "absurd_quantity", "negative_price"]),
    ({"q": "100", "p": "1000"}, []),
    ({"q": "100.1", "p": "1e4", "u": "a robot"}, ["absurd_quantity", "absurd_price", "test_account"]),
    ({"u": "root"}, ["test_account"]),
    ({"u": "qa-7"}, ["test_account"]),
    ({"u": "roots"}, []),
]


@pytest.mark.parametrize(("rules", "cases"), [({}, [*ALWAYS, *DEFAULT]), (STRICT, [*ALWAYS, *ON_REQUEST])])
def test_a_row_has_every_reason_of_the_rules_that_are_on(
    spark: SparkSession, rules: dict[str, Any], cases: list[tuple[dict[str, Any], list[str]]]
) -> None:
    rows = judged(raw_rows(spark, *[change for change, _ in cases]), **rules)
    assert [(change, row["reasons"]) for (change, _), row in zip(cases, rows, strict=True)] == cases
    assert [row["bad"] for row in rows] == [bool(reasons) for _, reasons in cases]


def test_the_judged_row_has_our_columns_and_both_dates(spark: SparkSession) -> None:
    frame = raw_rows(spark, {"i": " a\u00a01 b "}, {"i": "\u00a0", ARRIVAL: None})
    first, second = judged(frame, item_ids={"case": "upper", "blanks": "remove"})
    assert list(first.asDict())[:9] == [
        *("user_id", "item_id", "event_type", "event_time", "quantity", "price", "order_id"),
        *("event_date", "arrival_date"),
    ]
    assert list(first.asDict())[9:] == ["bad", "reasons", FILE, ORDER, HASH, RAW, WHY]
    assert (first["item_id"], first["event_time"]) == ("A1B", datetime(2024, 3, 5, 10))
    assert (first["event_date"], first["arrival_date"]) == (date(2024, 3, 5), date(2024, 3, 6))
    assert (second["arrival_date"], second["reasons"]) == (date(2024, 3, 5), ["missing_item_id"])


def test_returns_that_are_netted_later_pass_the_row_rules(spark: SparkSession) -> None:
    frame = raw_rows(spark, {"q": "-1"}, {"k": "return", "q": "-1"}, {"k": "view", "q": "-1"}, {"q": "0"})
    rules: dict[str, Any] = {"returns": "net", "non_positive_quantity": "reject", "unknown_types": "reject"}
    assert [row["bad"] for row in judged(frame.drop(ARRIVAL, MISSING_JOINS, CORRUPT), **rules)] == [
        *(False, False, True, True)
    ]


def test_lookups_give_reasons_and_multiply_nothing(spark: SparkSession) -> None:
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"i": "gun"}, ["blocked_item", "forbidden_content"]),
        ({"i": "ball"}, ["forbidden_content"]),
        ({"i": "tea", "p": "9.9", "q": "3"}, []),
        ({"i": "tea", "p": "-10.1", "q": "4"}, ["outlier_quantity", "outlier_price"]),
        ({"i": "tea", "p": "0.9", "q": None}, ["outlier_price"]),
        ({"i": "tea", "p": "0"}, []),  # nothing to judge
        ({"i": "tea", "p": "99", "t": "2024-03-03"}, []),  # Sunday, in a week without bounds
        ({"i": "cup", "p": "99"}, []),
    ]
    blocked = spark.createDataFrame(
        [("gun", True, True), ("ball", False, True)], "item_id string, blocked_item boolean, forbidden_content boolean"
    )
    bounds = spark.createDataFrame(
        [("tea", date(2024, 3, 4), 1.0, 3.0, 1.0, 10.0), ("cup", date(2024, 3, 4), None, None, None, None)],
        "item_id string, week date, low_quantity double, high_quantity double, low_price double, high_price double",
    )
    frame = raw_rows(spark, *[change for change, _ in cases])
    rows = judged(frame, Lookups(bounds, blocked), outliers={"quantity": True, "price": True})
    assert [(change, row["reasons"]) for (change, _), row in zip(cases, rows, strict=True)] == cases
    prices = judged(frame.limit(4), Lookups(bounds, None), outliers={"price": True})
    assert [row["reasons"] for row in prices] == [[], [], [], ["outlier_price"]]


def test_a_line_too_long_is_told_and_broken_text_can_be_kept(spark: SparkSession) -> None:
    frame = raw_rows(spark, {}).withColumn(TOO_LONG, F.lit(True)).withColumn(BAD_ENCODING, F.lit(True))
    assert judged(frame)[0]["reasons"] == ["line_too_long", "bad_encoding"]
    assert judged(frame, bad_encoding="keep")[0]["reasons"] == ["line_too_long"]


def test_every_reason_stands_once_in_the_list() -> None:
    assert len(set(REASONS)) == len(REASONS)


@pytest.mark.parametrize("key", ["test_account_patterns", "forbidden_text"])
def test_patterns_that_cannot_be_compiled_are_refused_by_name(spark: SparkSession, key: str) -> None:
    with pytest.raises(ValidationError, match=rf"{key}.0\s+Value error, '\(' is no regular expression"):
        Cleaning.model_validate({key: ["("]})
    python_only = "(?P<name>a)"
    with pytest.raises(UserError, match=rf"^cleaning.{key}: Java cannot use .*P<name.*; write it in another way$"):
        judged(raw_rows(spark, {}), None, **{key: [python_only]})


def test_netting_needs_a_lateness_that_holds_the_prompt_days() -> None:
    with pytest.raises(ValidationError, match=r"prompt_days .1. is more than lateness_days .0."):
        Cleaning(returns="net", lateness_days=0)
    rules = Cleaning(returns="net", lateness_days=30, future_hours=25)
    assert (rules.return_days, rules.days_early) == (29, 2)
