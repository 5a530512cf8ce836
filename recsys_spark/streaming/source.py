"""What the stream reads: a folder of JSON lines files, Kafka, or synthetic events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.streaming import Stream
from recsys_spark.credentials import secret_of
from recsys_spark.errors import UserError
from recsys_spark.events.rows import FILE
from recsys_spark.online.opening import events_folder
from recsys_spark.streaming.judging import ARRIVED
from recsys_spark.tables.files import new_file, write_synced
from recsys_spark.tables.location import spark_path

SOURCE = "recsys_spark-source.json"
"""The file in a checkpoint that says which source it is of."""


def lines(spark: SparkSession, stream: Stream, root: Path, items: Sequence[str]) -> DataFrame:
    """The stream's lines: `value string, _source_file string, arrived timestamp`.

    `root` is the workspace's folder `online`. A micro-batch is bounded by `max_files` files or `max_rows` messages.
    `items` are those of synthetic events. Raises UserError where an option's variable is not set, the connector is
    missing, or Spark refuses the options.
    """
    if stream.format == "rate":
        return _synthetic(spark, stream, items)
    try:
        return _files(spark, stream, root) if stream.format == "json" else _messages(spark, stream)
    except PySparkException as error:
        if stream.format == "kafka" and "kafka" in str(error).lower() and "find" in str(error).lower():
            raise UserError(
                "stream.format kafka: Spark's connector is not on the class path; start the job with spark-submit "
                "--packages org.apache.spark:spark-sql-kafka-0-10_2.13:VERSION, the version of your Spark"
            ) from None
        message = " ".join(str(error).split("JVM stacktrace")[0].split())[:300]
        raise UserError(f"stream: cannot be read ({message}); check stream.path and stream.options") from None


def checkpoint_folder(stream: Stream, root: Path) -> Path:
    """Where Spark notes what it has read."""
    return Path(stream.checkpoint).expanduser().absolute() if stream.checkpoint else root / "checkpoint"


def claim_checkpoint(stream: Stream, root: Path) -> Path:
    """The checkpoint's folder, marked as that of this source. Raises UserError where it is another source's."""
    folder = checkpoint_folder(stream, root)
    told = {"format": stream.format, "source": _source(stream, root)}
    marker = folder / SOURCE
    if not marker.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "metadata").exists():
            raise UserError(f"stream.checkpoint {folder}: not a checkpoint of this job; name another folder")
        with new_file(marker) as file:
            write_synced(file, json.dumps(told, sort_keys=True))
        return folder
    known = json.loads(marker.read_text(encoding="utf-8"))
    if known != told:
        raise UserError(
            f"stream.checkpoint {folder}: belongs to {known['format']} {known['source']}, not to {told['format']} "
            f"{told['source']}; name another folder, or remove this one to begin anew"
        )
    return folder


def _source(stream: Stream, root: Path) -> str:
    if stream.format == "json":
        return str(events_folder(stream, root))
    if stream.format == "rate":
        return "synthetic"
    names = ("kafka.bootstrap.servers", "subscribe", "subscribePattern", "assign")
    return " ".join(stream.options[name] for name in names if name in stream.options)


def _options(stream: Stream) -> dict[str, str]:
    secrets = {name: secret_of(variable, "stream.options_env") for name, variable in stream.options_env.items()}
    return {**stream.options, **secrets}


def _files(spark: SparkSession, stream: Stream, root: Path) -> DataFrame:
    folder = events_folder(stream, root)
    folder.mkdir(parents=True, exist_ok=True)
    options = {**_options(stream), "maxFilesPerTrigger": str(stream.max_files)}
    if stream.finished_files != "keep":
        archive = spark_path(root / "archive")
        options |= {"cleanSource": stream.finished_files, "sourceArchiveDir": archive}
    read = spark.readStream.format("text").options(**options).load(spark_path(folder))
    came = F.col("_metadata.file_modification_time").alias(ARRIVED)
    return read.select("value", F.col("_metadata.file_path").alias(FILE), came)


def _messages(spark: SparkSession, stream: Stream) -> DataFrame:
    options = {**_options(stream), "maxOffsetsPerTrigger": str(stream.max_rows)}
    read = spark.readStream.format("kafka").options(**options).load()
    place = F.concat_ws("/", F.lit("kafka"), "topic", F.col("partition").cast("string"))
    return read.select(
        F.col("value").cast("string").alias("value"), place.alias(FILE), F.col("timestamp").alias(ARRIVED)
    )


def _synthetic(spark: SparkSession, stream: Stream, items: Sequence[str]) -> DataFrame:
    """Clicks of `load-0`, `load-1`, ... with the items, each drawn by the event's number; named by time and number."""
    read = spark.readStream.format("rate").option("rowsPerSecond", stream.rows_per_second).load()
    number = F.col("value")
    micros = F.unix_micros("timestamp")
    event = F.struct(
        F.format_string("load-%d-%d", micros, number).alias(stream.event_id),
        F.format_string("load-%d", F.pmod(F.xxhash64(number, F.lit(1)), stream.rate_users)).alias(
            stream.columns["user_id"]
        ),
        F.element_at(F.lit(list(items)), (F.pmod(F.xxhash64(number, F.lit(2)), len(items)) + 1).cast("int")).alias(
            stream.columns["item_id"]
        ),
        F.lit("click").alias(stream.columns["event_type"]),
        micros.alias(stream.columns["event_time"]),
    )
    return read.select(F.to_json(event).alias("value"), F.lit("rate").alias(FILE), F.col("timestamp").alias(ARRIVED))
