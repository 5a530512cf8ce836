"""Nights of a shop that trains where it must: `python -m tests.e2e.retraining_nights FOLDER`.

The main job, night after night, as its command line runs it, and the promotion of the first night's model on the day
after the second; a line of JSON each. Then the models that are evaluated
are trained for a later date in two copies of the workspace: `before` as it was before the last night, and `after`, in
which that night's champion has learned from events after the cut, and everything from POISONED on is other than it was.
"""

from __future__ import annotations

import shutil
import sys
from datetime import date, datetime
from pathlib import Path

from recsys_spark.config import load_config
from recsys_spark.pipeline.command import main
from recsys_spark.pipeline.runner import Runner
from recsys_spark.pipeline.stages import STAGES
from recsys_spark.pipeline.train import part
from tests.shop import item, purchases, write_purchases

FIRST, KEPT, LAST, LATER = "2024-02-10", "2024-02-11", "2024-03-01", "2024-03-08"
POISONED = datetime(2024, 2, 24)
"""Where the valid window of LATER begins: the cut of its `select` fit."""
NEW_ITEMS = [f"NEW-{number}" for number in range(4)]
"""They are sold from the day after the second night."""


def write(folder: Path, name: str, poisoned: bool) -> Path:
    """Files of the shop, and the configuration of the workspace `name`; returns the configuration's path."""
    rows = []
    for number, (user, sku, when, invoice, quantity, price) in enumerate(purchases()):
        if when >= datetime(2024, 2, 12) and number % 5 == 0:
            sku = NEW_ITEMS[number % 4]
        if poisoned and when >= POISONED:
            sku = item(number % 4, 11 - number % 7)
        rows.append((user, sku, when, invoice, quantity, price))
    (folder / f"{name}-landing").mkdir(parents=True)
    write_purchases(folder / f"{name}-landing" / "sales.csv", rows)
    config = folder / f"{name}.yaml"
    config.write_text(
        f"""
workspace: {folder / name}
source:
  format: csv
  path: {folder / f"{name}-landing"}/*.csv
  options: {{header: "true"}}
  columns: {{user_id: CustomerID, item_id: StockCode, event_time: InvoiceDate, order_id: InvoiceNo,
            quantity: Quantity, price: UnitPrice}}
  event_type: purchase
  timestamp_format: M/d/yyyy H:mm
split: {{test_days: 7, valid_days: 7}}
models: [popularity, gru]
datasets: {{max_length: 10, row_groups: 2}}
recommenders: {{gru: {{dim: 8, epochs: 3, batch_size: 32, negatives: 16}}}}
fusion: {{k: 5, method: average, explain_items: 0}}
evaluation: {{k: [5], repeats: allow, bootstrap: 0}}
promotion: {{auto: true, min_users: 1, beat_popularity: false, min_coverage: null, max_ndcg_loss: null,
            max_coverage_loss: null, max_segment_loss: null, max_popularity_gain: null, max_latency_ms: null,
            max_latency_ratio: null, max_empty_lists: 1.0, max_short_lists: 1.0}}
retraining: {{max_age_days: 14, new_items_share: 0.05, warm_start: true, warm_epochs: 1}}
spark: {{master: "local[2]", driver_memory: 1g, shuffle_partitions: 2}}
""",
        encoding="utf-8",
    )
    return config


def run(config: Path, *arguments: str, job: str = "run_pipeline") -> None:
    code = main(job, ["--config", str(config), *arguments])
    if code:
        raise SystemExit(code)


def train(config: Path, day: str) -> None:
    """The fit of the network that is evaluated, and what it needs."""
    runner = Runner(load_config([str(config)], ["evaluation.only=true"]), "nights", date.fromisoformat(day))
    stages = [STAGES[name] for name in ("clean_events", "build_features", "build_datasets")]
    try:
        for stage in (*stages, part("popularity", runner.config), part("gru", runner.config)):
            runner.run(stage)
    finally:
        runner.stop()


if __name__ == "__main__":
    root = Path(sys.argv[1])
    config = write(root, "shop", poisoned=False)
    run(config, "--date", FIRST, "--set", "promotion.auto=false")
    run(config, "--date", KEPT, "--set", "promotion.auto=false")
    run(config, "--date", KEPT, "--set", "promotion.auto=false")
    run(config, job="promote_model")
    shutil.copytree(root / "shop", root / "before")
    run(config, "--date", LAST)
    shutil.copytree(root / "shop", root / "after")
    for name in ("before", "after"):
        train(write(root, name, poisoned=name == "after"), LATER)
