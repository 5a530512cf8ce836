"""Reading logged exposures: whose, of what, when, and with which probability."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType

from recsys_spark.config.cleaning import ItemIds
from recsys_spark.config.sources import Logged
from recsys_spark.errors import UserError
from recsys_spark.evaluation.off_policy import SMALLEST_PROPENSITY
from recsys_spark.events.columns import parsed_time, plain_number, plain_text
from recsys_spark.events.rows import CORRUPT, find_column, own_columns, quoted
from recsys_spark.events.rules.spelling import spelled
from recsys_spark.events.sources import read_source

KEY = "evaluation.logged"
COLUMNS = ("user_id", "item_id", "time", "propensity")


def read_logged(spark: SparkSession, logged: Logged, item_ids: ItemIds, start: int, end: int) -> DataFrame:
    """Columns user_id, item_id, rank (0 where not logged), propensity, time (epoch seconds, from start to before end).

    Raises UserError where an exposure of that time has no user, item, or rank, or a propensity that is not within
    SMALLEST_PROPENSITY and 1; or where a time cannot be read: estimates from the rest would be of another policy.
    """
    raw = read_source(spark, logged, key=KEY)
    available, types = own_columns(raw.frame), {field.name: field.dataType for field in raw.frame.schema}

    def of(ours: str) -> tuple[Column, str]:
        found = find_column(available, logged.columns[ours])
        assert found is not None, "read_source asks for every mapped column"
        return quoted(found), found

    ids = {name: plain_text(of(name)[0], types[of(name)[1]]) for name in ("user_id", "item_id")}
    ranked = "rank" in logged.columns
    corrupt = F.col(CORRUPT).isNotNull() if CORRUPT in raw.frame.columns else F.lit(False)
    read = raw.frame.select(
        ids["user_id"].alias("user_id"),
        spelled(ids["item_id"], item_ids).alias("item_id"),
        (plain_number(of("rank")[0], types[of("rank")[1]]).try_cast("int") if ranked else F.lit(0)).alias("rank"),
        plain_number(of("propensity")[0], types[of("propensity")[1]]).alias("propensity"),
        F.unix_seconds(_time(of("time")[0], types[of("time")[1]])).alias("time"),
        corrupt.alias("corrupt"),
    )
    propensity, least = F.col("propensity"), 1 if ranked else 0
    within = (F.col("time") >= start) & (F.col("time") < end)
    wrong = propensity.isNull() | (propensity < SMALLEST_PROPENSITY) | (propensity > 1)
    unusable = F.col("user_id").isNull() | F.col("item_id").isNull() | F.col("rank").isNull() | (F.col("rank") < least)
    _refuse(
        read,
        {
            f"{logged.columns['time']} that cannot be read as a time": F.col("time").isNull() | F.col("corrupt"),
            f"{logged.columns['propensity']} that is not a probability from {SMALLEST_PROPENSITY:g} to 1": within
            & wrong,
            "user, item or rank that is missing": within & unusable,
        },
    )
    return read.where(within).drop("corrupt")


def _time(column: Column, type_: DataType) -> Column:
    return parsed_time(plain_text(column, type_) if isinstance(type_, StringType) else column, type_)


def _refuse(rows: DataFrame, reasons: Mapping[str, Column]) -> None:
    counts = rows.agg(*[F.count(F.when(bad, 1)).alias(f"_{n}") for n, bad in enumerate(reasons.values())]).first()
    assert counts is not None
    for what, count in zip(reasons, counts, strict=True):
        if count:
            raise UserError(f"{KEY}: {count} exposures have a {what}; correct or leave out those rows")
