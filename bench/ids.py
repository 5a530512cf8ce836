"""Measures the id maps at 5 million users and 1 million items: wall time, shuffle bytes, memory of the driver.

    python bench/ids.py --driver-memory 2g --write

Names and days of arrival are drawn by a hash and lie in Parquet, in no order. For each kind it numbers them all, then
numbers a tenth more on top (a day's run), and checks that the numbers are dense and given once. In local mode the
driver's JVM is also the executor. Prints a table; --write also writes bench/results/ids.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from pyspark.sql import DataFrame, SparkSession  # noqa: E402
from pyspark.sql import functions as F  # noqa: E402

from bench.measures import event_log_settings, heap_peak_mb, reset_heap_peak, task_bytes  # noqa: E402
from recsys_spark.config import Config  # noqa: E402
from recsys_spark.features.ids import assign_dense, ranges_for  # noqa: E402
from recsys_spark.session import build_session  # noqa: E402

DAYS = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--driver-memory", default="2g", help="the JVM's -Xmx")
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--write", action="store_true", help="write bench/results/ids.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "log").mkdir()
        measured = measure(arguments, Path(folder))
    print(f"{'':20}{'ids':>12}{'seconds':>10}{'shuffled MB':>13}{'spilled MB':>12}{'heap MB':>9}")
    for name, row in measured["runs"].items():
        values = f"{row['ids']:>12,}{row['seconds']:>10.1f}{row['shuffle_written_mb']:>13,.0f}"
        print(f"{name:20}{values}{row['spilled_to_disk_mb']:>12,.0f}{row['heap_peak_mb']:>9,.0f}")
    print(f"the JVM ran with -Xmx{arguments.driver_memory}; the driver's Python took {measured['driver_python_mb']} MB")
    if arguments.write:
        out = ROOT / "bench" / "results" / "ids.json"
        out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(arguments: argparse.Namespace, folder: Path) -> dict:  # type: ignore[type-arg]
    """Number users and items, and a tenth more of each, in one session."""
    source = {
        "format": "csv",
        "path": "none",
        "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
        "event_type": "view",
    }
    settings = {
        "master": arguments.master,
        "driver_memory": arguments.driver_memory,
        "conf": event_log_settings(folder / "log"),
    }
    spark = build_session(Config.model_validate({"source": source, "spark": settings}), "bench ids")
    runs, spans = {}, {}
    for kind, count in (("user", arguments.users), ("item", arguments.items)):
        previous: DataFrame | None = None
        for name, size in ((f"{kind}s", count), (f"{kind}s, a tenth more", count + count // 10)):
            seen = written(drawn(spark, size, kind), folder / f"{name} seen")
            reset_heap_peak(spark)
            started = time.time()
            numbered = assign_dense(seen, previous, f"{kind}_id", "number", folder / "scratch", ranges_for(size))
            previous = written(numbered, folder / f"{name} numbered")
            spans[name] = (started, time.time())
            runs[name] = {"ids": size, "seconds": time.time() - started, "heap_peak_mb": heap_peak_mb(spark)}
            check_dense(previous, size, kind)
    spark.stop()
    for name, bytes_ in task_bytes(folder / "log", spans).items():
        runs[name] |= bytes_
    python = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    told = {"cores": os.cpu_count(), "master": arguments.master, "driver_memory": arguments.driver_memory}
    return {**told, "driver_python_mb": python, "runs": runs}


def drawn(spark: SparkSession, count: int, kind: str) -> DataFrame:
    """So many names with the day of their first arrival, in no order; a smaller count gives a part of a larger one."""
    number = F.xxhash64("id", F.lit(kind))
    name = F.concat(F.lit(kind[0]), F.lpad(F.hex("id"), 8, "0"), F.substring(F.hex(number), 1, 6))
    day = F.date_add(F.lit("2024-01-01").cast("date"), F.pmod(number, F.lit(DAYS)).cast("int"))
    return spark.range(0, count, 1, 16).select(name.alias(f"{kind}_id"), day.alias("arrived"))


def written(frame: DataFrame, path: Path) -> DataFrame:
    """The rows, read back from Parquet."""
    frame.write.parquet(f"file://{path}")
    return frame.sparkSession.read.schema(frame.schema).parquet(f"file://{path}")


def check_dense(numbered: DataFrame, size: int, kind: str) -> None:
    """Raise RuntimeError where a number or a name is missing or stands twice."""
    found = numbered.agg(
        F.count("*"), F.min("number"), F.max("number"), F.countDistinct("number"), F.countDistinct(f"{kind}_id")
    ).collect()[0]
    if tuple(found) != (size, 1, size, size, size):
        raise RuntimeError(f"{kind}: {tuple(found)} are not {size} dense numbers")


if __name__ == "__main__":
    sys.exit(main())
