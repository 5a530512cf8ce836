"""Tables of a relational database, read through JDBC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sources import Files
from recsys_spark.credentials import secret_of
from recsys_spark.errors import UserError
from recsys_spark.events.rows import FILE, ORDER, refuse_internal, united
from recsys_spark.redaction import covered

DRIVERS = {
    "postgresql": "org.postgresql.Driver",
    "mysql": "com.mysql.cj.jdbc.Driver",
    "mariadb": "org.mariadb.jdbc.Driver",
    "sqlserver": "com.microsoft.sqlserver.jdbc.SQLServerDriver",
    "oracle": "oracle.jdbc.OracleDriver",
    "db2": "com.ibm.db2.jcc.DB2Driver",
    "h2": "org.h2.Driver",
}
"""Driver classes by the word after `jdbc:`; Java finds none by itself in a jar that Spark was given at its start."""
ADVICE = (
    (
        r"No suitable driver|ClassNotFoundException",
        "there is no JDBC driver for it; name its jar in spark.conf (spark.jars: /path/driver.jar) or with --jars, and "
        "its class in options.driver if it is an unusual one",
    ),
    (
        r"authentication failed|Access denied|invalid username/password|Login failed|no password was provided",
        "the database refuses the user; check options.user and the variable that password_env names",
    ),
    (
        r"[Cc]onnection.* refused|Communications link failure|connection attempt failed|UnknownHost|timed? ?out",
        "the database does not answer; check options.url and that it runs",
    ),
    (r"does not exist|doesn't exist|Invalid object name|no such table", "check path and the database in options.url"),
)
"""What an error's text shows, and what to do about it."""


def read_jdbc(spark: SparkSession, files: Files, where: str) -> DataFrame:
    """The rows of the tables, columns with the types that Spark finds for them, FILE and ORDER.

    FILE is the table's name. Rows of a database have no order: ORDER numbers them as they come, so it is the same
    again only if the database gives them in the same order. Raises UserError where the driver, the database, a table
    or the password is missing.
    """
    options = {key.lower(): value for key, value in files.options.items()}
    known = DRIVERS.get(options["url"].removeprefix("jdbc:").split(":")[0])
    if known is not None:
        options.setdefault("driver", known)
    frames = []
    with jdbc_errors(files, where):
        for name in files.paths:
            reader = spark.read.format("jdbc").options(**options, dbtable=name)
            secret = password(files, where)
            frame = (reader.option("password", secret) if secret is not None else reader).load()
            refuse_internal(frame.columns, where)
            frames.append(frame.select("*", F.lit(name).alias(FILE), F.monotonically_increasing_id().alias(ORDER)))
    return united(frames)


def password(files: Files, where: str) -> str | None:
    """The password from the environment. Raises UserError where the variable is not set."""
    return None if files.password_env is None else secret_of(files.password_env, f"{where}, password_env")


@contextmanager
def jdbc_errors(files: Files, where: str) -> Iterator[None]:
    """Around what asks the database: its errors are UserErrors of one line, without the password."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        trace = str(error)
        causes = [line for line in trace.splitlines() if re.match(r"(Caused by)?: ", line)] or trace.splitlines()[:1]
        cause = re.sub(r"^(Caused by)?: (\S+(Exception|Error): )?", "", causes[-1])
        advice = next(
            (text for pattern, text in ADVICE if re.search(pattern, trace)), "check path, options and columns"
        )
        # Covered before it is cut: half a password is one, too.
        raise UserError(f"{where}: {advice} ({covered(' '.join(cause.split()))[:300]})") from None
