"""Views in a metastore, so that SQL users see the newest version of each table."""

from __future__ import annotations

import re

from pyspark.sql import SparkSession
from pyspark.sql.utils import AnalysisException

from recsys_spark.errors import UserError
from recsys_spark.tables.location import spark_path
from recsys_spark.tables.pointer import Commit

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_database(database: str) -> None:
    """Refuse a database name that is not a plain identifier."""
    if not IDENTIFIER.fullmatch(database):
        raise UserError(f"tables.catalog {database!r}: must be a plain database name (letters, digits, underscores)")


def replace_views(spark: SparkSession, database: str, commit: Commit) -> None:
    """Point the view `<database>.<table>` of each table of the commit at its files; each view changes in one step."""
    check_database(database)
    try:
        spark.sql(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        for table in commit.tables:
            path = spark_path(commit.path(table)).replace("`", "``")
            spark.sql(f"CREATE OR REPLACE VIEW `{database}`.`{table}` AS SELECT * FROM parquet.`{path}`")
    except AnalysisException as error:
        first_line = str(error).splitlines()[0]
        raise UserError(f"tables.catalog {database}: the metastore refused a view ({first_line})") from None
