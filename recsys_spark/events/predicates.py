"""Reject predicates: the user's own SQL conditions on the columns of a source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType

from recsys_spark.errors import UserError

REJECTED, REJECTIONS = "_rejected", "_rejections"
ANSI = "spark.sql.ansi.enabled"
QUOTED = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`)""")
COMPARED_RIGHT = re.compile(r"([<>=]\s*)(-?\d+)(?![\w.(])")
COMPARED_LEFT = re.compile(r"(?<![\w.])(\d+)(?=\s*[<>=!])")
BETWEEN = re.compile(r"(\bbetween\s+)(-?\d+)(\s+and\s+)(-?\d+)(?![\w.(])", re.IGNORECASE)


def with_rejections(frame: DataFrame, predicates: Mapping[str, str], text: bool, where: str) -> DataFrame:
    """Add REJECTED boolean, and REJECTIONS array<string>: the predicates that are true. Null and false do not reject.

    Conditions are analysed without ANSI, so that a value that does not fit (`Quantity <= 0` over "x") makes the
    condition null instead of ending the job. `text`: the columns are strings, so that whole numbers are compared as
    doubles: else Spark would read "0.5" as the whole number 0. Raises UserError where a predicate does not parse,
    names a column that the file lacks, or is no condition.
    """
    with _without_ansi(frame.sparkSession):
        names, rejected = [F.lit(None).cast("string")], F.lit(False)
        for name, predicate in predicates.items():
            condition = _condition(frame, name, compared_as_double(predicate) if text else predicate, where)
            names.append(F.when(condition, F.lit(name)))
            rejected = rejected | F.coalesce(condition, F.lit(False))
        return frame.select("*", rejected.alias(REJECTED), F.array_compact(F.array(*names)).alias(REJECTIONS))


def check_predicates(frame: DataFrame, predicates: Mapping[str, str], text: bool, where: str) -> None:
    """Raise UserError where one of the predicates cannot be applied to the frame's columns."""
    with_rejections(frame, predicates, text, where)


def compared_as_double(predicate: str) -> str:
    """Write whole numbers that stand beside a comparison as doubles, outside quotes: `x <= 0` becomes `x <= 0D`."""

    def rewrite(part: str) -> str:
        part = BETWEEN.sub(r"\1\2D\3\4D", part)
        part = COMPARED_RIGHT.sub(r"\1\2D", part)
        return COMPARED_LEFT.sub(r"\1D", part)

    parts = QUOTED.split(predicate)
    return "".join(part if place % 2 else rewrite(part) for place, part in enumerate(parts))


def _condition(frame: DataFrame, name: str, predicate: str, where: str) -> Column:
    try:
        condition = F.expr(predicate)
        type_ = frame.select("*", condition.alias("_condition")).schema["_condition"].dataType
    except PySparkException as error:
        message = " ".join(str(error).split("SQLSTATE")[0].split())
        raise UserError(f"{where}: reject.{name} ({predicate}) cannot be used: {message}") from None
    if not isinstance(type_, BooleanType):
        raise UserError(f"{where}: reject.{name} ({predicate}) is {type_.simpleString()}, not a condition")
    return condition


@contextmanager
def _without_ansi(spark: SparkSession) -> Iterator[None]:
    before = spark.conf.get(ANSI)
    spark.conf.set(ANSI, "false")
    try:
        yield
    finally:
        spark.conf.set(ANSI, str(before))
