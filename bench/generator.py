"""Makes the log of an invented shop, as large and as dirty as asked for, with its catalogue and its configuration.

    python bench/generator.py --events 10000000 --out /data/shop
    python jobs/run_pipeline.py --config /data/shop/shop.yaml

Items sell by Zipf's law, drift, have seasons and come new; users have tastes, look around in sessions, come from views
to purchases and buy consumables again; robots walk by. Then things go wrong (`--dirty 0`: they do not): copies, late
rows, returns, broken values and lines, as counted in truth.json. Spark makes the parts in parallel; the same seed gives
the same files on any machine. Below --out:

    events/2024-01-05/part-0003.csv   rows by the day on which they arrived
    catalog.csv                       item_id, title, description, category, brand, price
    shop.yaml, daily.yaml             configurations: all at once, and day by day as rows arrive
    truth.json                        what was put in
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pyspark import cloudpickle
from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench import log_dirt, log_model, log_text  # noqa: E402
from bench.log_model import LogSpec, Market  # noqa: E402

WORDS = (
    ["red", "blue", "green", "black", "white", "small", "large", "soft", "light", "warm", "classic", "modern"],
    [
        "lamp",
        "chair",
        "cup",
        "shirt",
        "jacket",
        "bag",
        "book",
        "clock",
        "towel",
        "pillow",
        "pan",
        "brush",
        "candle",
        "ball",
        "plant",
        "box",
    ],
)
RULES = {
    "earliest": "2000-01-01",
    "item_ids": {"case": "upper", "blanks": "remove"},
    "max_quantity": 10_000,
    "outliers": {"price": True},
    "near_duplicate_seconds": 5,
    "robots": {"events_an_hour": 600, "regularity": 0.1},
    "returns": "net",
    "lateness_days": 8,
    "test_account_patterns": ["^test_"],
}
"""Rules of cleaning by which the dirt is found."""
BRANDS = ["Alder", "Birch", "Cedar", "Elm", "Fir", "Hazel", "Larch", "Maple", "Oak", "Pine", "Rowan", "Willow"]


@dataclass(frozen=True)
class Files:
    """How and where the log is written."""

    out: Path
    format: str = "csv"
    zipped: bool = False

    @property
    def suffix(self) -> str:
        """The end of the files' names."""
        return {"csv": "csv", "json": "json", "parquet": "parquet"}[self.format] + (".gz" if self.zipped else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, required=True, help="events of customers; dirt comes on top")
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not hold events yet")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--users", type=int, default=0, help="default: one for 20 events")
    parser.add_argument("--items", type=int, default=0, help="default: one for 250 events")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--start", type=date.fromisoformat, default=date(2024, 1, 1), help="the first day")
    parser.add_argument("--format", choices=("csv", "json", "parquet"), default="csv")
    parser.add_argument("--gzip", action="store_true", help="csv and json: as .gz")
    parser.add_argument("--dirty", type=float, default=1.0, help="1 as usual, 0 clean, 2 twice as dirty")
    parser.add_argument("--master", default=os.environ.get("MASTER", "local[*]"))
    arguments = parser.parse_args()
    if (arguments.out / "events").exists():
        parser.error(f"{arguments.out}/events exists; name a new folder")
    if arguments.gzip and arguments.format == "parquet":
        parser.error("--gzip is for csv and json; Parquet is compressed anyway")
    if arguments.events < 1 or arguments.days < 1 or not 0 <= arguments.dirty <= 10:
        parser.error("--events and --days must be positive, --dirty between 0 and 10")
    spec = LogSpec(
        arguments.events,
        arguments.days,
        arguments.users,
        arguments.items,
        arguments.seed,
        arguments.start,
        arguments.dirty,
    )
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(arguments.master).appName("recsys_spark bench generator")
    spark = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false").getOrCreate()
    try:
        truth = generate(spark, spec, Files(arguments.out.absolute(), arguments.format, arguments.gzip))
    finally:
        spark.stop()
    print(json.dumps(truth, indent=1))
    return 0


def generate(spark: SparkSession, spec: LogSpec, files: Files) -> dict[str, int]:
    """Write the log, its catalogue, configurations and truth.json; returns what was put in.

    `files.out` must be on a file system that Spark's tasks share.
    """
    for name in day_names(spec):
        (files.out / "events" / name).mkdir(parents=True, exist_ok=True)
    for module in (log_model, log_dirt, log_text, sys.modules[__name__]):
        if module.__name__ != "__main__":  # executors do not have this folder
            cloudpickle.register_pickle_by_value(module)

    def make(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        market = Market(spec)
        for batch in batches:
            for shard in batch["id"]:
                yield pd.DataFrame({"truth": [json.dumps(write_shard(spec, market, int(shard), files))]})

    shards = spark.range(0, spec.shards, 1, spec.shards).mapInPandas(make, "truth string")
    total: Counter[str] = Counter()
    for row in shards.toLocalIterator(prefetchPartitions=True) if spec.shards > 1000 else shards.collect():
        total.update(json.loads(row["truth"]))
    truth = {**total, **write_catalogue(spec, files.out / "catalog.csv")}
    truth |= {"robots": log_dirt.robots_of(spec)[0], "users": spec.num_users, "items": spec.num_items}
    write_configurations(spec, files)
    told = {**asdict(spec), "start": spec.start.isoformat(), "format": files.format}
    (files.out / "truth.json").write_text(json.dumps({"truth": truth, "spec": told}, indent=1) + "\n", encoding="utf-8")
    return truth


def write_shard(spec: LogSpec, market: Market, shard: int, files: Files) -> dict[str, int]:
    """Write one shard's file of each day; returns how many rows of which kind are in them."""
    events = log_model.customer_events(spec, market, shard)
    rows = log_dirt.soiled(spec, market, shard, events, lines=files.format != "parquet")
    texts = log_text.Texts(spec, market, shard, rows)
    for name, content in zip(day_names(spec), log_text.day_files(texts, files.format, files.zipped), strict=True):
        if content:
            (files.out / "events" / name / f"part-{shard:04d}.{files.suffix}").write_bytes(content)
    return rows.truth


def day_names(spec: LogSpec) -> list[str]:
    """The days of the log."""
    return [(spec.start + timedelta(days=day)).isoformat() for day in range(spec.days)]


def write_catalogue(spec: LogSpec, path: Path) -> dict[str, int]:
    """One row an item; some have a second one with another title."""
    market, rng = Market(spec), np.random.default_rng([spec.seed, 4])
    adjectives, nouns = (rng.integers(0, len(words), spec.num_items) for words in WORDS)
    brands = rng.integers(0, len(BRANDS), spec.num_items)
    conflicting = rng.random(spec.num_items) < log_dirt.CONFLICTS * spec.dirty
    again = []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("item_id", "title", "description", "category", "brand", "price"))
        for item in range(spec.num_items):
            number, brand = int(market.number_I[item]), BRANDS[brands[item]]
            thing = f"{WORDS[0][adjectives[item]]} {WORDS[1][nouns[item]]}"
            row = [f"I{number:07d}", f"{brand} {thing}", f"A {thing}, no. {number}, made by {brand}."]
            row += [f"category {market.category_I[item]:03d}", brand, str(market.price_I[item])]
            writer.writerow(row)
            if conflicting[item]:
                again.append([row[0], f"{row[1]} (old)", *row[2:]])
        writer.writerows(again)
    return {"catalogue_conflict": len(again)}


def write_configurations(spec: LogSpec, files: Files) -> None:
    """shop.yaml takes everything at once, daily.yaml takes rows by the day of their folder."""
    columns = {name: name for name in log_text.COLUMNS}
    source: dict[str, Any] = {
        "format": files.format,
        "path": f"{files.out}/events/*/*.{files.suffix}",
        "columns": columns,
    }
    catalog_columns = ("item_id", "title", "description", "category", "brand", "price")
    if files.format == "csv":
        source["options"] = {"header": "true"}
    window = max(1, spec.days // 5)
    # Where nothing tells the day of arrival, no time is in the future by itself.
    source["reject"] = {"after_the_log": f"event_time >= '{spec.start + timedelta(days=spec.days)}'"}
    shop = {
        "workspace": f"{files.out}/workspace",
        "source": source,
        "catalog": {
            "format": "csv",
            "path": f"{files.out}/catalog.csv",
            "options": {"header": "true"},
            "columns": {name: name for name in catalog_columns},
        },
        "cleaning": RULES,
        "split": {"test_days": window, "valid_days": window},
    }
    daily = {**shop, "source": {**source, "arrival": {"path_pattern": r"/events/(\d{4}-\d{2}-\d{2})/"}}}
    for name, content in (("shop", shop), ("daily", daily)):
        (files.out / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
