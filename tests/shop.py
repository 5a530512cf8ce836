"""A small shop for tests: raw CSV files as a shop would export them, with a structure that recommenders can find."""

from __future__ import annotations

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

START = datetime(2024, 1, 1, 8, 0)
DAYS = 84
"""The log covers the days from START; with the default split the last 14 are test and the 14 before them valid."""
GROUPS, ITEMS_A_GROUP, USERS = 4, 12, 60


def item(group: int, number: int) -> str:
    return f"SKU-{group}{number:02d}"


def purchases(seed: int = 1) -> list[tuple[str, str, datetime, str, int, float]]:
    """(customer, item, time, invoice, quantity, price): user u buys from group u % GROUPS, and a staple each week."""
    draw = random.Random(seed)
    rows = []
    for user in range(USERS):
        group = user % GROUPS
        staple = item(group, user % ITEMS_A_GROUP)
        for day in range(user % 7, DAYS, 7):
            when = START + timedelta(days=day, minutes=draw.randrange(600))
            basket = {staple, *(item(group, draw.randrange(ITEMS_A_GROUP)) for _ in range(2))}
            if draw.random() < 0.2:
                basket.add(item((group + 1) % GROUPS, 0))
            rows += [(f"C{user:03d}", sku, when, f"N{user:03d}{day:03d}", 1, 2.5) for sku in sorted(basket)]
    return rows


def write_purchases(path: Path, rows: list[tuple[str, str, datetime, str, int, float]]) -> None:
    """A CSV export with its own header and timestamps like 1/8/2024 8:26."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["CustomerID", "StockCode", "InvoiceDate", "InvoiceNo", "Quantity", "UnitPrice"])
        for customer, sku, when, invoice, quantity, price in rows:
            stamp = f"{when.month}/{when.day}/{when.year} {when.hour}:{when.minute:02d}"
            writer.writerow([customer, sku, stamp, invoice, quantity, price])


def write_catalog(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "name", "kind"])
        for group in range(GROUPS):
            for number in range(ITEMS_A_GROUP):
                writer.writerow([item(group, number), f"Thing {number}, of group {group}", f"group {group}"])


def write_shop(folder: Path) -> Path:
    """Write raw files and a configuration below `folder`; returns the configuration's path."""
    (folder / "landing").mkdir(parents=True)
    write_purchases(folder / "landing" / "sales.csv", purchases())
    write_catalog(folder / "catalog.csv")
    config = folder / "shop.yaml"
    config.write_text(
        f"""
workspace: {folder / "workspace"}
source:
  format: csv
  path: {folder / "landing"}/*.csv
  options: {{header: "true"}}
  columns: {{user_id: customerid, item_id: StockCode, event_time: InvoiceDate, order_id: InvoiceNo,
            quantity: Quantity, price: UnitPrice}}
  event_type: purchase
  timestamp_format: M/d/yyyy H:mm
  reject: {{cancelled: "InvoiceNo LIKE 'C%'"}}
catalog:
  format: csv
  path: {folder / "catalog.csv"}
  options: {{header: "true"}}
  columns: {{item_id: sku, title: name, category: kind}}
datasets: {{max_length: 10, row_groups: 2}}
recommenders:
  ease: {{max_items: 40, l2: 5}}
  mfn: {{dim: 8, epochs: 2, batch_size: 32}}
  gru: {{dim: 8, epochs: 2, batch_size: 32, negatives: 16}}
fusion: {{k: 5, search_users: 50}}
evaluation: {{k: [5, 10]}}
spark: {{master: "local[2]", driver_memory: 1g, shuffle_partitions: 2}}
""",
        encoding="utf-8",
    )
    return config
