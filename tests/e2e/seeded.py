"""A shop with faults seeded into its last day, and a process that runs jobs on it: `python -m tests.e2e.seeded PLAN`.

The plan is a JSON list of `[job, arguments]`; all run in one process, which is quicker than one each. Every job's last
line is on stdout, its exit code on stderr (`run_jobs` starts it, `lines_of` reads the former).
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from recsys_spark.pipeline import command
from tests.e2e.conftest import ROOT, Finished, finish

START = datetime(2024, 1, 1, 8, 0)
DAYS, USERS, GROUPS, ITEMS_A_GROUP = 49, 140, 4, 12
LAST_DAY = date(2024, 1, 1) + timedelta(days=DAYS - 1)
ROBOT, ROBOT_ITEM, ROBOT_EVENTS = "C666", "SKU-005", 10_000
GONE = "group 3"
"""The category that vanishes."""
Row = tuple[str, str, datetime, str, int, float]
HEADER = ["CustomerID", "StockCode", "InvoiceDate", "InvoiceNo", "Quantity", "UnitPrice"]


def purchases() -> list[Row]:
    """Each user buys on three days a week, a staple and others of one group: about 180 events a day."""
    draw = random.Random(7)
    rows = []
    for user in range(USERS):
        group = user % GROUPS
        staple = f"SKU-{group}{user % ITEMS_A_GROUP:02d}"
        for day in range(DAYS):
            if (day + user) % 7 not in (0, 2, 4):
                continue
            when = START + timedelta(days=day, minutes=draw.randrange(700))
            basket = {staple, *(f"SKU-{group}{draw.randrange(ITEMS_A_GROUP):02d}" for _ in range(2))}
            rows += [(f"C{user:03d}", sku, when, f"N{user:03d}{day:03d}", 1, _price(sku)) for sku in sorted(basket)]
    return rows


def _price(sku: str) -> float:
    return 1.0 + 0.25 * int(sku[-2:])


def in_cents(rows: Iterable[Row]) -> list[Row]:
    """On the last day prices are in cents."""
    return [(*row[:5], row[5] * 100) if row[2].date() == LAST_DAY else row for row in rows]


def with_robot(rows: Iterable[Row]) -> list[Row]:
    """On the last day a robot buys one item ten thousand times."""
    begin = datetime.combine(LAST_DAY, datetime.min.time())
    times = [begin + timedelta(seconds=8 * number) for number in range(ROBOT_EVENTS)]
    bought = [(ROBOT, ROBOT_ITEM, when, f"R{when:%H%M%S}", 1, _price(ROBOT_ITEM)) for when in times]
    return [*rows, *bought]


def without_category(rows: Iterable[Row]) -> list[Row]:
    """On the last day nothing of one category is bought."""
    digit = GONE[-1]
    return [row for row in rows if row[2].date() != LAST_DAY or row[1][4] != digit]


LOGS: dict[str, Callable[[list[Row]], list[Row]]] = {
    "quiet": lambda rows: rows,
    "cents": in_cents,
    "robot": with_robot,
    "category": without_category,
}


def write_shop(folder: Path) -> Path:
    """A folder of raw files for each log, the catalogue, and a configuration that reads the quiet one."""
    rows = purchases()
    for name, fault in LOGS.items():
        (folder / name).mkdir(parents=True)
        with (folder / name / "sales.csv").open("w", newline="", encoding="utf-8") as file:
            lines = ([*row[:2], row[2].isoformat(), *row[3:]] for row in fault(rows))
            csv.writer(file).writerows([HEADER, *lines])
    with (folder / "catalog.csv").open("w", newline="", encoding="utf-8") as file:
        items = [(group, number) for group in range(GROUPS) for number in range(ITEMS_A_GROUP)]
        kinds = [
            [f"SKU-{group}{number:02d}", f"Thing {number}, of group {group}", f"group {group}"]
            for group, number in items
        ]
        csv.writer(file).writerows([["sku", "name", "kind"], *kinds])
    config = folder / "shop.yaml"
    config.write_text(
        f"""
workspace: {folder / "workspace"}
source:
  format: csv
  path: {folder}/quiet/*.csv
  options: {{header: "true"}}
  columns: {{user_id: CustomerID, item_id: StockCode, event_time: InvoiceDate, order_id: InvoiceNo,
            quantity: Quantity, price: UnitPrice}}
  event_type: purchase
catalog:
  format: csv
  path: {folder / "catalog.csv"}
  options: {{header: "true"}}
  columns: {{item_id: sku, title: name, category: kind}}
models: [popularity, repurchase]
datasets: {{max_length: 10, row_groups: 2}}
fusion: {{k: 5, search_users: 50, explain_items: 0}}
evaluation: {{k: [5], repeats: allow, bootstrap: 20}}
spark: {{master: "local[2]", driver_memory: 1g, shuffle_partitions: 2}}
tables: {{buckets: 2}}
""",
        encoding="utf-8",
    )
    return config


def run_jobs(config: Path, jobs: Sequence[tuple[str, Sequence[str]]], **environment: str) -> Finished:
    """Run jobs with their arguments, one after the other in one process; the plan lies beside the configuration."""
    plan = config.parent / "plan.json"
    plan.write_text(json.dumps([[job, ["--config", str(config), *given]] for job, given in jobs]), encoding="utf-8")
    return finish([sys.executable, "-m", "tests.e2e.seeded", str(plan)], ROOT, **environment)


def lines_of(ended: Finished) -> list[dict[str, Any]]:
    """The last line of each job."""
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


if __name__ == "__main__":
    for job, arguments in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        print(f"exit code {command.main(job, arguments)}", file=sys.stderr, flush=True)
