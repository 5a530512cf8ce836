"""Regular expressions of the configuration, as Spark's Java runs them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

from pyspark.errors import IllegalArgumentException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from recsys_spark.errors import UserError


def matches_any(text: Column, patterns: Iterable[str]) -> Column:
    """Whether one of the patterns occurs anywhere in the text; false where the text is null."""
    found = [F.coalesce(text.rlike(pattern), F.lit(False)) for pattern in patterns]
    # Joined into one pattern their group numbers and inline flags would run into each other.
    return reduce(lambda left, right: left | right, found, F.lit(False))


def check_java_patterns(spark: SparkSession, patterns: Iterable[str], key: str) -> None:
    """Raise UserError where Java does not know a pattern that Python took: the two differ in rare constructs."""
    jvm: Any = spark._jvm
    for pattern in patterns:
        try:
            jvm.java.util.regex.Pattern.compile(pattern)
        except IllegalArgumentException as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{key}: Java cannot use the regular expression {pattern!r} ({reason}); write it in another way"
            ) from None
