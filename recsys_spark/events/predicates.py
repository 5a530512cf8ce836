"""Reject predicates: the user's own SQL conditions on the columns of a source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, StringType

from recsys_spark.config.predicates import FUNCTIONS, NEVER
from recsys_spark.errors import UserError
from recsys_spark.events.rows import BETWEEN

REJECTED, REJECTIONS = "_rejected", "_rejections"
ANSI = "spark.sql.ansi.enabled"
WHOLE_NUMBER = re.compile(r"[+-]?\s*\d{1,15}")
"""Whole numbers that a double holds exactly; longer ones are ids, and are compared as they stand."""
COMPARISONS = {"EqualTo", "EqualNullSafe", "LessThan", "LessThanOrEqual", "GreaterThan", "GreaterThanOrEqual"}
"""Spark's names of `= <=> < <= > >=`; the others are these, negated."""
MORE_THAN_A_ROW = re.compile(r".*Subquery|Exists|ListQuery|.*WindowExpression|Current.*|LocalTimestamp|.*Parameter")
"""Spark's names of queries, windows, times, sessions and parameters within an expression."""


def with_rejections(frame: DataFrame, predicates: Mapping[str, str], where: str) -> DataFrame:
    """Add REJECTED boolean, and REJECTIONS: the predicates that are true, BETWEEN them. Null and false do not reject.

    Conditions are analysed without ANSI, so that a value that does not fit (`Quantity <= 0` over "x") makes the
    condition null instead of ending the job, and whole numbers are compared with text as `compared_as_double` says.
    Raises UserError where a predicate does not parse, names a column that the file lacks, or is no condition.
    """
    with _without_ansi(frame.sparkSession):
        names, rejected = [F.lit(None).cast("string")], F.lit(False)
        for name, predicate in predicates.items():
            condition = _condition(frame, name, predicate, where)
            names.append(F.when(condition, F.lit(name)))
            rejected = rejected | F.coalesce(condition, F.lit(False))
        return frame.select("*", rejected.alias(REJECTED), F.concat_ws(BETWEEN, *names).alias(REJECTIONS))


def check_predicates(frame: DataFrame, predicates: Mapping[str, str], where: str) -> None:
    """Raise UserError where one of the predicates cannot be applied to the frame's columns."""
    with_rejections(frame, predicates, where)


def compared_as_double(frame: DataFrame, predicate: str) -> str:
    """Write whole numbers that are compared with a text column as doubles: `Quantity <= 0` becomes `Quantity <= 0D`.

    Else Spark would compare as whole numbers, and read the text "0.5" as 0. It is done for a column of `frame` that
    holds strings and stands alone on the other side of a comparison or before BETWEEN. In expressions, lambdas and IN
    lists nothing is changed: write `CAST(Quantity AS DOUBLE)` or `0.0` there.
    """
    return _as_double(frame, predicate, _nodes(frame, predicate))


def _as_double(frame: DataFrame, predicate: str, nodes: Sequence[Any]) -> str:
    """`compared_as_double` by the nodes of the predicate's tree, which know where each part stands in the text."""
    text = {field.name.lower() for field in frame.schema if isinstance(field.dataType, StringType)}
    ends: set[int] = set()

    def is_text(node: Any) -> bool:
        parts = node.nameParts() if _kind(node) == "UnresolvedAttribute" else None
        return parts is not None and parts.size() == 1 and parts.head().lower() in text

    for node in filter(_compares, nodes):
        children = _children(node)
        if any(map(is_text, children)):
            spans = [(child.origin().startIndex().get(), child.origin().stopIndex().get() + 1) for child in children]
            ends.update(stop for start, stop in spans if WHOLE_NUMBER.fullmatch(predicate[start:stop]))
    for end in sorted(ends, reverse=True):
        predicate = f"{predicate[:end]}D{predicate[end:]}"
    return predicate


def _nodes(frame: DataFrame, predicate: str) -> list[Any]:
    """All nodes of the predicate's tree, by Spark's own parser, whatever quotes, raw strings and comments it has."""
    jvm: Any = frame.sparkSession._jsparkSession
    nodes = [jvm.sessionState().sqlParser().parseExpression(predicate)]
    for node in nodes:  # which grows while it is gone through
        nodes += _children(node)
    return nodes


def _children(node: Any) -> list[Any]:
    children = node.children()
    return [children.apply(place) for place in range(children.size())]


def _kind(node: Any) -> str:
    return str(node.getClass().getSimpleName())


def _compares(node: Any) -> bool:
    return _kind(node) in COMPARISONS or (
        _kind(node) == "UnresolvedFunction" and node.nameParts().mkString(".").lower() == "between"
    )


def _fault(frame: DataFrame, nodes: Sequence[Any]) -> str | None:
    """Why a predicate is more than a condition on a row, by the nodes of its tree; see `config.predicates`."""
    columns = {column.lower() for column in frame.columns}
    for node in nodes:
        kind = _kind(node)
        if MORE_THAN_A_ROW.fullmatch(kind):
            return f"{kind} is no condition on a row"
        if kind == "UnresolvedFunction" and node.nameParts().mkString(".").lower() not in FUNCTIONS:
            return f"{node.nameParts().mkString('.')} is not among the functions that a predicate may call"
        if kind == "UnresolvedAttribute" and {node.name().lower().strip("`")} & NEVER - columns:
            return f"there is no column {node.name()}"
    return None


def _condition(frame: DataFrame, name: str, predicate: str, where: str) -> Column:
    try:
        nodes = _nodes(frame, predicate)
        fault = _fault(frame, nodes)
        if fault is not None:
            raise UserError(f"{where}: reject.{name} ({predicate}) cannot be used: {fault}")
        condition = F.expr(_as_double(frame, predicate, nodes))
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
