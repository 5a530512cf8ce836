"""A planted shop: users of group g buy items of group g and nothing else, so that right answers are known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config import Config
from recsys_spark.datasets.build import build_fits
from recsys_spark.datasets.histories import HISTORIES, read_histories
from recsys_spark.datasets.split import Cuts, Plan
from recsys_spark.datasets.tasks import run_tasks
from recsys_spark.datasets.vocabulary import count_items
from recsys_spark.events.layout import file_name
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.fitting.registry import FITS
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.registry import load_recommender
from recsys_spark.tables.schemas import TABLES

DAY = 86_400
START = 1_704_067_200  # 2024-01-01
TRAIN_DAYS, VALID_DAYS, TEST_DAYS = 80, 14, 14
CUT = START + TRAIN_DAYS * DAY
GROUPS, ITEMS_A_GROUP, USERS = 4, 8, 48
PURCHASE, SEARCH = 4, 5
MOST_POPULAR = (1, 5)
"""Group and number of the item that its group buys each day of the last three."""
NEURAL = ("mfn", "gru")
NAMES = ("popularity", "repurchase", "item_knn", "ease", *NEURAL)
CONFIG = Config.model_validate(
    {
        "source": {
            "format": "csv",
            "path": "unused.csv",
            "event_type": "purchase",
            "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
        },
        "datasets": {"row_groups": 2, "max_length": 20},
        "recommenders": {
            "ease": {"l2": 5.0},
            "mfn": {"dim": 32, "epochs": 20, "batch_size": 16, "learning_rate": 0.02, "warmup_steps": 5},
            "gru": {
                "dim": 16,
                "epochs": 10,
                "batch_size": 16,
                "learning_rate": 0.02,
                "warmup_steps": 5,
                "negatives": 32,
            },
        },
    }
)
BEST_EPOCH = {"mfn": 20, "gru": 10}


def item_id(group: int, number: int) -> str:
    return f"g{group}-{number}"


def item_index(group: int, number: int) -> int:
    """The global index: in another order than the codes, so that mixing them up shows."""
    return 1 + number * GROUPS + (GROUPS - 1 - group)


def group_of(user: int) -> int:
    return user % GROUPS


def never_bought(user: int) -> set[int]:
    """Numbers of the two items of its group that the user does not buy in train."""
    first = (user // GROUPS) % ITEMS_A_GROUP
    return {first, (first + 1) % ITEMS_A_GROUP}


def staple(user: int) -> int:
    """Number of the item that the user buys each week, and no other day."""
    return (user // GROUPS + 2) % ITEMS_A_GROUP


def train_events(user: int) -> list[tuple[int, int, int]]:
    """(time, group, number), in order, before the cut."""
    draw, group = random.Random(user), group_of(user)
    others = sorted(set(range(ITEMS_A_GROUP)) - never_bought(user) - {staple(user)})
    events = []
    for week_day in range(user % 7, TRAIN_DAYS - 3, 7):
        when = START + week_day * DAY + 3600 * (8 + user % 10)
        basket = [staple(user), *draw.sample(others, 2)]
        events += [(when + minute * 60, group, number) for minute, number in enumerate(basket)]
    if group == MOST_POPULAR[0] and MOST_POPULAR[1] in others:
        events += [(CUT - days * DAY + 60 * user, *MOST_POPULAR) for days in (3, 2, 1)]
    return events


def later_events(user: int, poisoned: bool) -> list[tuple[int, int, int]]:
    """Events of the valid and the test window; poisoned, they are of another group, and many."""
    group = (group_of(user) + 1) % GROUPS if poisoned else group_of(user)
    numbers = range(ITEMS_A_GROUP) if poisoned else sorted(set(range(ITEMS_A_GROUP)) - never_bought(user))[:2]
    days = range(0, VALID_DAYS + TEST_DAYS, 1 if poisoned else 7)
    return [(CUT + day * DAY + 60 * number, group, number) for day in days for number in numbers]


def history_rows(poisoned: bool) -> list[tuple[object, ...]]:
    """Rows of the table histories."""
    rows: list[tuple[object, ...]] = []
    for user in range(USERS):
        events = train_events(user) + later_events(user, poisoned)
        times = [time for time, _, _ in events]
        folds = [0 if time < CUT else 1 if time < CUT + VALID_DAYS * DAY else 2 for time in times]
        items = [item_index(group, number) for _, group, number in events]
        rows.append((user + 1, f"u{user}", items, [PURCHASE] * len(events), [1.0] * len(events), times, folds))
    return rows


@dataclass
class Shop:
    """Fits recommenders on the planted shop: each once, and each once more on poisoned later events."""

    spark: SparkSession
    directory: Path

    def __post_init__(self) -> None:
        self.bundles: dict[tuple[str, bool], Path] = {}
        self.facts: dict[tuple[str, bool], Facts] = {}
        self.datasets: dict[bool, Path] = {}

    def recommender(self, name: str) -> Recommender:
        return load_recommender(self.bundle(name))

    def bundle(self, name: str, poisoned: bool = False) -> Path:
        """The bundle of a fit that may see fold 0 alone."""
        key = (name, poisoned)
        if key not in self.bundles:
            output = self.directory / f"{name}-{poisoned}"
            inputs = FitInputs(
                spark=self.spark,
                config=CONFIG,
                name=name,
                fit="test" if name in NEURAL else "select",
                dataset=self.dataset(poisoned),
                histories=self.histories(poisoned),
                folds=(0,),
                cut_time=CUT,
                output=output,
                frozen={"best_epoch": BEST_EPOCH[name]} if name in NEURAL else {},
            )
            self.facts[key] = FITS[name](inputs)
            self.bundles[key] = output
        return self.bundles[key]

    def histories(self, poisoned: bool) -> DataFrame:
        # The poisoned rows come in another order and partitioning too.
        rows = history_rows(poisoned)
        frame = self.spark.createDataFrame(rows[::-1] if poisoned else rows, TABLES["histories"].schema)
        return frame.repartition(3) if poisoned else frame.coalesce(1)

    def dataset(self, poisoned: bool) -> Path:
        if poisoned not in self.datasets:
            folder = self.directory / f"built-{poisoned}"
            histories, items, scratch = (folder / name for name in ("histories", "items", "scratch"))
            for path in (histories, items, scratch / "counts"):
                path.mkdir(parents=True)
            file = histories / file_name("all", 0)
            columns = [list(column) for column in zip(*history_rows(poisoned), strict=True)]
            pq.write_table(pa.table(columns, schema=HISTORIES), file)
            pq.write_table(self.items(), items / "part-0.parquet")
            cuts = Cuts(CUT + (VALID_DAYS + TEST_DAYS) * DAY, CUT, CUT + VALID_DAYS * DAY)
            counts = scratch / "counts" / "0.parquet"
            told = run_tasks(self.spark, lambda _: count_items(read_histories(str(file)), [cuts], counts), 1)
            plan = Plan("select", 0, cuts, (0,), CUT)
            build_fits(self.spark, histories, items, CONFIG, [plan], told, folder / "datasets", scratch)
            self.datasets[poisoned] = folder / "datasets" / "select"
        return self.datasets[poisoned]

    def items(self) -> pa.Table:
        pairs = [(group, number) for group in range(GROUPS) for number in range(ITEMS_A_GROUP)]
        return pa.table(
            {
                "item_index": pa.array([item_index(*pair) for pair in pairs], pa.int32()),
                "item_id": [item_id(*pair) for pair in pairs],
                "title": pa.nulls(len(pairs), pa.string()),
            }
        )

    def codes(self, pairs: Sequence[tuple[int, int]]) -> list[int]:
        """Codes of (group, number), read from the vocabulary."""
        ids = pq.read_table(self.dataset(False) / "vocabulary.parquet")["item_id"].to_pylist()
        return [ids.index(item_id(*pair)) for pair in pairs]

    def batch(self, users: Sequence[int]) -> UserBatch:
        """Train histories at the cut; a user of -1 has none."""
        lists = [train_events(user) if user >= 0 else [] for user in users]
        events = [event for events in lists for event in events]
        count = len(events)
        return UserBatch(
            items=torch.tensor(self.codes([(group, number) for _, group, number in events]), dtype=torch.int64),
            event_types=torch.full((count,), PURCHASE, dtype=torch.int64),
            weights=torch.ones(count),
            ages=torch.tensor([(CUT - time) / DAY for time, _, _ in events], dtype=torch.float32),
            offsets=torch.from_numpy(
                np.concatenate([[0], np.cumsum([len(events) for events in lists])]).astype(np.int64)
            ),
        )
