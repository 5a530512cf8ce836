"""The one place that builds a SparkSession."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession

from recsys_spark.config import Config


def build_session(config: Config, app_name: str) -> SparkSession:
    """The session of a job: what spark-submit set stays, our defaults fill the rest, `spark.conf` wins.

    Python workers run this interpreter unless PYSPARK_PYTHON says otherwise; time is UTC everywhere.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # Python workers of a local master inherit it
    if _is_local(config):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.appName(app_name)
    if config.spark.master:
        builder = builder.master(config.spark.master)
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Corrupt CSV rows are only recognised when every column is parsed.
        "spark.sql.csv.parser.columnPruning.enabled": "false",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.ui.showConsoleProgress": "false",
        # Idle threads of a task's matrix products would spin on the cores that other tasks need.
        "spark.executorEnv.OMP_WAIT_POLICY": "PASSIVE",
    }
    if not os.environ.get("SPARK_ENV_LOADED"):  # spark-submit has set these up itself
        settings["spark.driver.memory"] = config.spark.driver_memory
        settings["spark.ui.enabled"] = "false"
    if config.spark.shuffle_partitions:
        settings["spark.sql.shuffle.partitions"] = str(config.spark.shuffle_partitions)
    elif _is_local(config):
        settings["spark.sql.shuffle.partitions"] = str(2 * (os.cpu_count() or 1))
    if config.tables.catalog:  # views that outlive the session need a metastore
        settings["spark.sql.catalogImplementation"] = "hive"
    for key, value in {**settings, **config.spark.conf}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def _is_local(config: Config) -> bool:
    return (config.spark.master or os.environ.get("MASTER") or "local").startswith("local")


def total_cores(spark: SparkSession) -> int:
    """Task slots of the session's cluster, as Spark sees them now."""
    return int(spark.sparkContext.defaultParallelism)
