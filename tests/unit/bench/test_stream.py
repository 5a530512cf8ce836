from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.stream import Shop, copied_store, put, shop_of, taken
from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.online.step import process_batch
from recsys_spark.tables.batches import batches_of
from tests.live_shop import ITEMS, opened, shop

SOURCE = {"format": "csv", "path": "x", "columns": {"user_id": "u", "item_id": "i", "event_time": "t"}}


def config(folder: Path) -> Config:
    store = {"store": f"sqlite:///{folder / 'store.db'}"}
    return Config.model_validate(
        {"workspace": str(folder), "source": {**SOURCE, "event_type": "click"}, "online": store}
    )


def test_the_bench_works_on_a_copy_of_a_store_with_a_publication(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no SQLite store"):
        copied_store(config(tmp_path), tmp_path / "copy.db")
    shop(tmp_path)
    copy = copied_store(config(tmp_path), tmp_path / "copy.db")
    assert copy.commit(process_batch(copy, None, [], 1).commit)
    assert opened(tmp_path / "store.db").batches() == ()
    drawn = shop_of(config(tmp_path), copy, 1)
    assert drawn.items == ITEMS
    assert drawn.event()["item_id"] in ITEMS


def test_only_what_the_store_has_counts_as_taken(tmp_path: Path) -> None:
    store, _ = shop(tmp_path)
    for number in (1, 2):
        batches_of(tmp_path).add(number, {}, {"rows": 10 * number})
    assert taken(tmp_path, store) == 0
    store.commit(process_batch(store, None, [], 1).commit)
    assert taken(tmp_path, store) == 10


def test_a_file_of_events_appears_whole(tmp_path: Path) -> None:
    put(tmp_path, "a", [Shop(["u"], ["i"], random.Random(1)).event() for _ in range(2)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert len((tmp_path / "a.json").read_text().splitlines()) == 2
