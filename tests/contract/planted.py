"""A planted shop: users of group g buy items of group g and nothing else, so that right answers are known."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config import Config
from recsys_spark.config.features import Features
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
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.worker import train
from tests.contract.catalogue import described, write_bert, write_features

DAY = 86_400
START = 1_704_067_200  # 2024-01-01
TRAIN_DAYS, VALID_DAYS, TEST_DAYS = 80, 14, 14
CUT = START + TRAIN_DAYS * DAY
GROUPS, ITEMS_A_GROUP, USERS = 4, 8, 48
PAIRS = [(group, number) for group in range(GROUPS) for number in range(ITEMS_A_GROUP)]
PURCHASE = 4
MOST_POPULAR = (1, 5)
"""Group and number of the item that its group buys each day of the last three."""
COUNTS = ("popularity", "trending", "segment_popularity")
"""They can score everybody, also users without a history."""
NEURAL = ("mfn", "gru", "lstm", "sasrec", "kim_cnn", "bert", "two_tower")
NAMES = (*COUNTS, "repurchase", "item_knn", "content_knn", "ease", "als", *NEURAL)
QUICK = {"dim": 16, "epochs": 10, "batch_size": 16, "learning_rate": 0.02, "warmup_steps": 5}
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
            "als": {"rank": 6, "iterations": 4},
            "segment_popularity": {"smoothing": 5},
            "mfn": {**QUICK, "dim": 32},
            "gru": {**QUICK, "negatives": 32},
            "lstm": {**QUICK, "negatives": 32},
            "sasrec": {**QUICK, "negatives": 32, "layers": 1, "dropout": 0.0},
            "kim_cnn": {**QUICK, "negatives": 32, "filters": 4},
            "bert": {**QUICK, "negatives": 32, "layers": 1, "dropout": 0.0},
            "two_tower": {**QUICK, "filters": 4},
        },
    }
)
EPOCHS = {"mfn": 20}


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


def train_here(spark: SparkSession, spec: TrainSpec, *_: object) -> Facts:
    """Train in this process, where others launch some; one thread, for two would wait for each other at every step."""
    return train(replace(spec, threads=1))


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
                config=self.config,
                name=name,
                fit="test" if name in NEURAL else "select",
                dataset=self.dataset(poisoned),
                histories=self.histories(poisoned),
                folds=(0,),
                cut_time=CUT,
                output=output,
                frozen={"best_epoch": EPOCHS.get(name, 10)} if name in NEURAL else {},
                features=self.features,
            )
            with patch("recsys_spark.fitting.neural.launch", train_here):
                self.facts[key] = FITS[name](inputs)
            self.bundles[key] = output
        return self.bundles[key]

    @cached_property
    def config(self) -> Config:
        """CONFIG with a small random BERT of the catalogue's words."""
        return CONFIG.model_copy(update={"features": Features(tokenizer=str(write_bert(self.directory / "bert")))})

    @cached_property
    def features(self) -> Path:
        """The version directory of stage fit_features: it knows nothing of what comes after the cut."""
        sold = Counter(pair[1:] for user in range(USERS) for pair in train_events(user))
        indices = [item_index(*pair) for pair in PAIRS]
        return write_features(self.directory / "features", PAIRS, indices, [sold[pair] for pair in PAIRS], CUT)

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
        return pa.table(
            {
                "item_index": pa.array([item_index(*pair) for pair in PAIRS], pa.int32()),
                "item_id": [item_id(*pair) for pair in PAIRS],
                "title": [described(*pair)["title"] for pair in PAIRS],
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
