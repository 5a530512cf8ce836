"""Nights of a small shop, some of them with faults: `python -m tests.e2e.nightly PLAN.json`, which lists runs.

Each run is `{"arguments": [...], "faults": [[stage, date, kind], ...]}`. A fault is met once, when the stage has done
its work and has not committed it: `raise`, `kill` (the JVM is killed) or `hang` (Spark does not answer any more). What
runs is the first half of the pipeline: the tables that all others are made from. Exit codes are printed on stderr.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from pyspark import SparkContext

from recsys_spark.pipeline import command
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult
from tests.shop import purchases

DAYS = 18
RUN = ("clean_events", "build_features", "build_datasets")
HEADER = ["CustomerID", "StockCode", "InvoiceDate", "InvoiceNo", "Quantity", "UnitPrice"]


def deliver(landing: Path, last_days: int = 3) -> list[str]:
    """Write a file for each of the log's last DAYS days, one row in fifty a day late; returns the last ones."""
    files: dict[str, list[list[object]]] = defaultdict(list)
    end = max(row[2] for row in purchases()).date()
    rows = [row for row in purchases() if row[2].date() > end - timedelta(days=DAYS)]
    for number, (customer, sku, when, invoice, quantity, price) in enumerate(rows):
        arrived = min(when.date() + timedelta(days=number % 50 == 0), end)
        files[arrived.isoformat()].append([customer, sku, when.isoformat(), invoice, quantity, price])
    for day, lines in files.items():
        (landing / day).mkdir(parents=True)
        with (landing / day / "part.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *lines])
    return sorted(files)[-last_days:]


def write_config(folder: Path, workspace: str = "workspace") -> Path:
    """The shop's configuration, with what makes its runs short."""
    columns = "{user_id: CustomerID, item_id: StockCode, event_time: InvoiceDate, order_id: InvoiceNo}"
    config = folder / f"{workspace}.yaml"
    config.write_text(
        f"""
workspace: {folder / workspace}
source:
  format: csv
  path: {folder / "landing"}/*/*.csv
  arrival: {{path_pattern: '/(\\d{{4}}-\\d{{2}}-\\d{{2}})/'}}
  options: {{header: "true"}}
  columns: {columns}
  event_type: purchase
cleaning: {{lateness_days: 1}}
split: {{test_days: 3, valid_days: 3}}
models: [popularity, repurchase]
datasets: {{max_length: 10, row_groups: 2}}
fusion: {{k: 5, search_users: 50, explain_items: 0}}
evaluation: {{k: [5], repeats: allow, bootstrap: 0}}
spark: {{master: "local[2]", driver_memory: 1g, shuffle_partitions: 2}}
tables: {{buckets: 2}}
""",
        encoding="utf-8",
    )
    return config


def faulty(stage: Stage, day: str, kind: str) -> Stage:
    """The stage with a fault on one day."""
    left = [kind]

    def run(context: StageContext) -> StageResult:
        result = stage.run(context)
        made_for = (context.as_of or datetime.min) - timedelta(days=1 if context.as_of else 0)
        if left and made_for.date().isoformat() == day:
            KINDS[left.pop()](context)
        return result

    return replace(stage, run=run)


def _raise(context: StageContext) -> None:
    raise RuntimeError("the power went")


def _kill(context: StageContext) -> None:
    gateway = SparkContext._gateway
    assert gateway is not None
    os.kill(gateway.proc.pid, signal.SIGKILL)
    context.spark.range(3).count()


def _hang(context: StageContext) -> None:
    context.spark.sql("SELECT java_method('java.lang.Thread', 'sleep', 600000L)").collect()


KINDS: dict[str, Callable[[StageContext], None]] = {"raise": _raise, "kill": _kill, "hang": _hang}


if __name__ == "__main__":
    stages = {name: command.STAGES[name] for name in RUN}
    for run in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        given = dict(stages)
        for name, day, kind in run["faults"]:
            given[name] = faulty(given[name], day, kind)
        command.STAGES = given  # type: ignore[misc]
        print(f"exit code {command.main('run_pipeline', run['arguments'])}", file=sys.stderr, flush=True)
