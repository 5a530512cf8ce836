"""A predicate compares and computes with a row, and does nothing else."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from recsys_spark.config.predicates import LONGEST, fault_of
from recsys_spark.config.sources import Source
from recsys_spark.config.streaming import Stream


@pytest.mark.parametrize(
    "predicate",
    [
        "InvoiceNo LIKE 'C%'",
        "NOT StockCode RLIKE '^[0-9]{5}'",
        "quantity <= 0 AND sales_value <= 0",
        "StockCode > 5 AND 1 / UnitPrice > 9",
        "Quantity <<< 0",  # Spark explains what is no SQL
        "lower(trim(`order state`)) IN ('open', \"it's\") OR price BETWEEN 1 AND (2)",
        r"x = r'\' AND y = 'a''b\'c' -- reflect( in a comment",
        "CASE WHEN a IS NULL THEN true ELSE CAST(b AS INT) & 1 = 1 END",
        "exists(split(x, ','), t -> 1 = CAST(t AS INT)) AND items[0].price::double > 1e3",
        "at < date '2024-01-05' - interval '1' day OR substring(x, 1, 5) = 'select ('",
        "CAST(price AS NUMERIC(10, 2)) > 1 AND CAST(price AS DEC(10,2)) < to_char(x, '9') AND to_varchar(y, '9') = '1'",
        "size(flatten(array_union(a, array_except(b, c)))) > shiftrightunsigned(x, 1)",
        "at + make_interval(0, 1) > t AND parse_url(url_decode(page), 'HOST') = 'shop'",
        "to_date(at) > '2024-01-01' AND `current_date` IS NOT NULL AND t.values > 1",
    ],
)
def test_conditions_on_a_row_are_taken(predicate: str) -> None:
    assert fault_of(predicate) is None


@pytest.mark.parametrize(
    ("predicate", "why"),
    [
        ("java_method('java.lang.System', 'getenv', 'SECRET') = 'x'", "calls java_method"),
        ("reflect('java.lang.Runtime', 'x')", "calls reflect"),
        ("`reflect`('java.lang.System', 'exit', 1)", "calls `reflect`"),
        ('"reflect"(1)', 'calls "reflect"'),
        ("system.builtin.lower(x) = 'a'", "calls lower"),
        ("shop.lower (x) = 'a'", "calls lower"),
        (r"x = r'\' OR reflect('a', 'b')", "calls reflect"),
        ("x /* y */ = 1", "holds '/*'"),
        ("x = (SELECT max(x) FROM secrets)", "SELECT is for queries"),
        ("x IN (TABLE secrets)", "TABLE is for queries"),
        ("EXISTS (VALUES (1))", "VALUES is for queries"),
        ("x IN (FROM secrets |> WHERE true)", "holds a query"),
        ("x > rand()", "calls rand"),
        ("uuid() = x", "calls uuid"),
        ("at > now()", "calls now"),
        ("at > current_timestamp", "current_timestamp is for"),
        ("unix_timestamp() > 1", "calls unix_timestamp"),
        ("user_name = current_user", "current_user is for"),
        ("input_file_name() LIKE 'x'", "calls input_file_name"),
        ("x = 1; DROP TABLE y", "holds ';"),
        ("ai_query('x', y) = 'z'", "calls ai_query"),
        ("count(*) > 1", "calls count"),
        ("row_number() OVER (ORDER BY x) > 1", "calls row_number"),
        ("x = ${env:SECRET}", "holds '${'"),
        ("x = :parameter", "holds ':p'"),
        ("x = 'open", 'holds "\'o"'),
        ("x = 1 OR " * LONGEST + "true", "longer than"),
    ],
)
def test_what_does_more_is_refused_before_spark_starts(predicate: str, why: str) -> None:
    fault = fault_of(predicate)
    assert fault is not None
    assert why in fault
    columns = {"user_id": "u", "item_id": "i", "event_time": "t"}
    with pytest.raises(ValidationError, match=r"r .*what a predicate may do"):
        Source(format="csv", path="a.csv", columns=columns, event_type="view", reject={"r": predicate})
    with pytest.raises(ValidationError, match=r"r .*what a predicate may do"):
        Stream(reject={"r": predicate})
