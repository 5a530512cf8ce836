"""Spark's own parser judges predicates once more: what a text hides from the first look is found in the tree."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.predicates import FUNCTIONS, fault_of
from recsys_spark.errors import UserError
from recsys_spark.events.predicates import REJECTED, check_predicates, with_rejections

SYNTAX = {"cast", "try_cast", "case", "between", "when", "if", "iff"} | {"extract", "position", "trim", "overlay"}
"""What Spark reads as syntax, or as another function."""


@pytest.mark.parametrize(
    "predicate",
    [
        "reflect('java.lang.System', 'getProperty', 'user.home') = 'x'",
        "`java_method`('java.lang.System', 'exit', 1) = 'x'",
        "x = (SELECT max(id) FROM range(3))",
        "x IN (SELECT id FROM range(3))",
        "EXISTS (SELECT 1)",
        "rank() OVER (ORDER BY x) = 1",
        "x > rand()",
        "current_timestamp > x",
        "`current_user` = 'me'",
        "system.builtin.reflect('java.lang.System', 'getProperty', 'user.home') = 'x'",
        "exists(array(x), t -> reflect('java.lang.System', 'getProperty', t) = 'x')",
        "x = :parameter",
        "count(*) > 1",
    ],
)
def test_what_is_more_than_a_condition_on_a_row_is_refused(spark: SparkSession, predicate: str) -> None:
    frame = spark.createDataFrame([], "x string")
    with pytest.raises(UserError, match=r"reject\.r .*cannot be used") as told:
        check_predicates(frame, {"r": predicate}, "source")
    assert "\n" not in str(told.value)
    assert fault_of(predicate) is not None or predicate.startswith("`current_user`"), "the first look found it, too"


def test_conditions_on_a_row_are_applied(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("C1", "a,b"), ("N1", None)], "order string, `current_user` string")
    predicate = "upper(order) LIKE 'C%' AND exists(split(`current_user`, ','), t -> t = 'b')"
    assert fault_of(predicate) is None
    rows = with_rejections(frame, {"r": predicate}, "source").where(REJECTED).collect()
    assert [row["order"] for row in rows] == ["C1"]


def test_every_function_that_may_be_called_is_one_of_sparks(spark: SparkSession) -> None:
    known = {row["function"] for row in spark.sql("SHOW SYSTEM FUNCTIONS").collect()}
    assert FUNCTIONS - known - SYNTAX == set()
