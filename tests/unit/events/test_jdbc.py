from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config.sources import Source
from recsys_spark.errors import UserError
from recsys_spark.events.rows import ARRIVAL, BAD_ENCODING, FILE, HASH, ORDER, TOO_LONG
from recsys_spark.events.sources import read_source
from tests.postgres import DRIVER_JAR, Server, postgres_server, why_not

WHY_NOT = why_not()
needs_postgres = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.sales
(id bigint PRIMARY KEY, customer bigint, sku text, at timestamp, pieces int, cost numeric(10, 2));
INSERT INTO shop.sales
SELECT i, 100 + i % 3, 'sku-' || i % 5, timestamp '2024-01-05' + i * interval '1 hour', i % 4, 2.5
FROM generate_series(1, 60) AS i;
CREATE TABLE payments (sale bigint, state text);
INSERT INTO payments SELECT i, CASE WHEN i % 2 = 0 THEN 'paid' ELSE 'open' END FROM generate_series(1, 60) AS i;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_server() as running, pytest.MonkeyPatch.context() as patch:
        running.execute(TABLES)
        patch.setenv("SHOP_PASSWORD", running.password)
        yield running


@pytest.fixture
def spark_with_driver(spark: SparkSession) -> SparkSession:
    spark.sql(f"ADD JAR {DRIVER_JAR}")
    return spark


def source(url: str, **changes: Any) -> Source:
    options = {"url": url, "user": Server.user, **changes.pop("options", {})}
    columns = {"user_id": "customer", "item_id": "sku", "event_time": "at", "quantity": "pieces", "price": "cost"}
    settings = {"format": "jdbc", "path": "shop.sales", "columns": columns, "event_type": "purchase"}
    return Source(**{**settings, "password_env": "SHOP_PASSWORD", "options": options, **changes})


@needs_postgres
def test_a_table_is_read_in_parts_with_its_own_types_and_arrivals(
    spark_with_driver: SparkSession, server: Server
) -> None:
    parts = {"partitionColumn": "id", "lowerBound": "1", "upperBound": "60", "numPartitions": "3", "fetchsize": "7"}
    frame = read_source(spark_with_driver, source(server.url, options=parts, arrival={"column": "at"})).frame
    assert frame.rdd.getNumPartitions() == 3
    types = dict(frame.dtypes)
    assert (types["customer"], types["at"], types["cost"]) == ("bigint", "timestamp", "decimal(10,2)")
    rows = frame.orderBy("id").collect()
    assert len(rows) == len({row[ORDER] for row in rows}) == len({row[HASH] for row in rows}) == 60
    first = rows[0]
    assert (
        first["customer"],
        first["sku"],
        first["at"],
        first[ARRIVAL],
        first[FILE],
        first[BAD_ENCODING],
        first[TOO_LONG],
    ) == (
        101,
        "sku-1",
        datetime(2024, 1, 5, 1),
        date(2024, 1, 5),
        "shop.sales",
        False,
        False,
    )


@needs_postgres
def test_tables_are_joined_in_the_database_of_the_shop(spark_with_driver: SparkSession, server: Server) -> None:
    options = {"url": server.url, "user": server.user}
    join = {
        "name": "payments",
        "format": "jdbc",
        "path": "payments",
        "options": options,
        "password_env": "SHOP_PASSWORD",
    }
    more = {"on": {"id": "sale"}, "columns": {"payment_status": "state"}, "required": True}
    frame: DataFrame = read_source(spark_with_driver, source(server.url, join=[{**join, **more}])).frame
    counts = {row["payment_status"]: row["count"] for row in frame.groupBy("payment_status").count().collect()}
    assert counts == {"paid": 30, "open": 30}


@needs_postgres
def test_what_is_wrong_with_a_database_is_one_line_without_the_password(
    spark_with_driver: SparkSession, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(config: Source) -> str:
        with pytest.raises(UserError) as error:
            read_source(spark_with_driver, config)
        message = str(error.value)
        assert "\n" not in message
        assert os.environ.get("SHOP_PASSWORD", server.password) not in message
        return message

    assert "check path and the database" in told(source(server.url, path="shop.nothing"))
    assert "no column 'who'" in told(
        source(server.url, columns={"user_id": "who", "item_id": "sku", "event_time": "at"})
    )
    assert "the database does not answer" in told(source("jdbc:postgresql://127.0.0.1:1/shop"))
    assert "no JDBC driver for it; name its jar" in told(source(server.url, options={"driver": "org.nowhere.Driver"}))
    monkeypatch.setenv("SHOP_PASSWORD", "open-sesame")
    assert "the database refuses the user" in told(source(server.url))
    monkeypatch.delenv("SHOP_PASSWORD")
    assert "password_env: the environment variable SHOP_PASSWORD is not set" in told(source(server.url))


@needs_postgres
@pytest.mark.slow
def test_the_job_cleans_a_database_with_the_driver_that_the_configuration_names(tmp_path: Path, server: Server) -> None:
    config = source(server.url, reject={"nothing_bought": "pieces = 0"}).model_dump(mode="json", exclude_defaults=True)
    file = tmp_path / "shop.yaml"
    spark = {"master": "local[2]", "driver_memory": "1g", "conf": {"spark.jars": str(DRIVER_JAR)}}
    file.write_text(yaml.safe_dump({"workspace": str(tmp_path / "workspace"), "source": config, "spark": spark}))
    command = [sys.executable, "jobs/clean_events.py", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout.splitlines()[-1])["metrics"]
    assert (metrics["rows_in"], metrics["clean"], metrics["quarantined"]) == (60, 45, 15)
    assert server.password not in done.stdout + done.stderr
    written = [path for path in (tmp_path / "workspace").rglob("*") if path.is_file()]
    assert not [path for path in written if server.password.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"password": "x"}}, "options hold a password"),
        ({"options": {"Password": "x"}}, "options hold a password"),
        ({"options": {"url": "jdbc:postgresql://h/d?user=u&password=x"}}, "options hold a password"),
        ({"options": {"url": "jdbc:postgresql://u:x@h/d"}}, "options hold a password"),
        ({"options": {"query": "SELECT 1"}}, "path names the table"),
        ({"arrival": {"modified": True}}, "give arrival.column"),
    ],
)
def test_a_password_in_the_configuration_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source("jdbc:postgresql://127.0.0.1:5432/shop", **changes)


def test_a_database_needs_a_url() -> None:
    columns = {"user_id": "customer", "item_id": "sku", "event_time": "at"}
    with pytest.raises(ValidationError, match="options lacks url"):
        Source(format="jdbc", path="sales", columns=columns, event_type="purchase")
