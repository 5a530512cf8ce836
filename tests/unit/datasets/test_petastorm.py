"""Petastorm's own reader and loader, not ours, on every dataset that a run writes."""

from __future__ import annotations

import random
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

from recsys_spark.tables.pointer import Commit
from tests.stages import Shop
from tests.unit.datasets.clean import build_shop, clean_rows

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from petastorm import make_batch_reader
    from petastorm.pytorch import BatchedDataLoader

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
START, AS_OF = datetime(2024, 1, 1), datetime(2024, 3, 1)
FITS = ("select", "test", "publish", "backtest-1")
DATASETS = [(fit, name) for fit in FITS for name in ("matrix", "sequences", "valid")]
DATASETS = [pair for pair in DATASETS if pair not in {("test", "valid"), ("publish", "valid")}]


@pytest.fixture(scope="module")
def commit(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Commit:
    draw = random.Random(3)
    events = [
        (f"u{draw.randrange(40)}", f"i{draw.randrange(30)}", "purchase", START + timedelta(hours=draw.randrange(1440)))
        for _ in range(600)
    ]
    shop = Shop(
        spark,
        tmp_path_factory.mktemp("petastorm"),
        source={"format": "csv", "path": "unused", "columns": {"user_id": "u", "item_id": "i", "event_time": "t"}}
        | {"event_type": "purchase"},
        split={"test_days": 10, "valid_days": 10, "backtests": 1},
        evaluation={"refit": True},
        datasets={"max_length": 5, "row_groups": 30, "negatives": 2},
    )
    return build_shop(shop, clean_rows(events), AS_OF, buckets=2)[1]


def rows_of(batch: dict[str, torch.Tensor]) -> list[str]:
    names = sorted(batch)
    return [repr([batch[name][row].tolist() for name in names]) for row in range(len(batch[names[0]]))]


@pytest.mark.parametrize("shards", [1, 2, *(pytest.param(shards, marks=pytest.mark.slow) for shards in (3, 5))])
def test_petastorms_loader_reads_each_row_of_every_dataset_once_an_epoch(commit: Commit, shards: int) -> None:
    for fit, name in DATASETS:
        path: Path = commit.path("datasets") / fit / name
        stored = pq.read_table(path)
        expected = [repr([row[column] for column in sorted(stored.column_names)]) for row in stored.to_pylist()]
        assert len(expected) % 30 == 0
        found: list[str] = []
        for shard in range(shards):
            reader = make_batch_reader(
                f"file://{path}",
                reader_pool_type="dummy",
                num_epochs=1,
                cur_shard=shard,
                shard_count=shards,
                shuffle_row_groups=True,
                seed=5,
            )
            with BatchedDataLoader(reader, batch_size=16, shuffling_queue_capacity=64) as loader:
                own = [row for batch in loader for row in rows_of(batch)]
            assert len(own) == len(expected) // shards
            found += own
        assert sorted(found) == sorted(expected), (fit, name)


def test_every_dataset_holds_rows_and_is_among_those_that_were_read(commit: Commit) -> None:
    written = sorted((path.parent.name, path.name) for path in (commit.path("datasets")).glob("*/*") if path.is_dir())
    assert written == sorted(DATASETS)
    for fit, name in DATASETS:
        assert commit.facts["num_rows"][fit][name] > 0
        assert sum(pq.read_table(commit.path("datasets") / fit / name)["row_weight"].to_pylist()) > 0


def test_negatives_are_items_of_the_vocabulary_that_the_user_has_no_event_with(commit: Commit) -> None:
    for fit in FITS:
        folder = commit.path("datasets") / fit
        items = pq.read_table(folder / "vocabulary.parquet").num_rows
        bought: dict[int, set[int]] = {}
        for row in pq.read_table(folder / "matrix").to_pylist():
            bought.setdefault(row["user_index"], set()).add(row["item"] + 1)
        for row in pq.read_table(folder / "sequences").to_pylist():
            if row["row_weight"]:
                assert all(1 <= token <= items for token in row["negatives"])
                assert not bought[row["user_index"]] & set(row["negatives"])
