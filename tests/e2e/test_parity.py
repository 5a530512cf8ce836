"""Batch job, stream and service make the same lists of the same histories, to float tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.opening import open_configured
from recsys_spark.online.step import process_batch
from recsys_spark.online.store import ListRow
from tests.e2e.parity import AS_OF, DAY, ParityShop
from tests.unit.serving.service import configured, serving

SMALL, LARGE = (24, 30), (1000, 400)
"""Users and items."""


def assert_alike(one: Mapping[str, Sequence[ListRow]], other: Mapping[str, Sequence[ListRow]]) -> None:
    """The same users and items in the same places, with the same reasons, and scores to float tolerance."""
    assert one.keys() == other.keys()
    for user, rows in one.items():
        told = [(row.rank, row.item_id, row.reason) for row in rows]
        assert told == [(row.rank, row.item_id, row.reason) for row in other[user]], user
        for row, same in zip(rows, other[user], strict=True):
            assert row.components.keys() == same.components.keys()
            parts = [row.score, *(row.components[name] for name in row.components)]
            others = [same.score, *(same.components[name] for name in row.components)]
            np.testing.assert_allclose(parts, others, rtol=1e-4, atol=1e-5, err_msg=user)


def answered(client: Any, users: Sequence[str], source: str) -> dict[str, list[ListRow]]:
    """The service's lists, which all must come from where `source` says."""
    lists = {}
    for user in users:
        answer = client.get(f"/v1/users/{user}/recommendations").json()
        assert answer["source"] == source, user
        lists[user] = [ListRow(*(item[name] for name in ListRow.__slots__)) for item in answer["items"]]
    return lists


def published(shop: ParityShop, lists: Mapping[str, list[ListRow]], folder: Path) -> Config:
    config = configured(folder, {"cache": {"trust_seconds": 0}, "limits": {"requests_per_second": None}})
    store = open_configured(config)
    store.publish(shop.publication, shop.states(lists))
    store.close()
    return config


def check_parity(spark: SparkSession, shop: ParityShop, folder: Path) -> None:
    """In three stores: by the stream in portions; by the service that the events are sent to; and as published."""
    at_night, now = shop.batch_lists(spark, with_live=False), shop.batch_lists(spark, with_live=True)
    assert sum(len(rows) for rows in now.values()) == 5 * len(shop.active)
    assert any([row.item_id for row in now[user]] != [row.item_id for row in at_night[user]] for user in now)
    quiet = {user: rows for user, rows in at_night.items() if user not in now}
    events, size = shop.live_events(), 37

    streamed = published(shop, at_night, folder / "stream")
    store = open_configured(streamed)
    live = LiveModel.load(shop.publication)
    for batch_id, start in enumerate(range(0, len(events), size)):
        step = process_batch(store, live, events[start : start + size], batch_id)
        assert store.commit(step.commit)
    made = {user: state.list.rows for user, state in store.users(shop.active).items() if state.list is not None}
    assert_alike(now, made)
    store.close()
    with serving(streamed) as client:
        assert_alike(now, answered(client, shop.active, "store"))
        assert_alike(quiet, answered(client, [*quiet], "store"))

    with serving(published(shop, at_night, folder / "service")) as client:
        for start in range(0, len(events), size):
            fields = ("event_id", "user_id", "item_id", "event_type", "event_time")
            told = [{name: getattr(event, name) for name in fields} for event in events[start : start + size]]
            assert client.post("/v1/events", json={"events": told}).status_code == 200
        assert_alike(now, answered(client, shop.active, "computed"))

    unlisted = published(shop, at_night, folder / "computed")
    store = open_configured(unlisted)
    computed = LiveModel.load(shop.publication).lists([*store.users([*shop.past]).values()])
    assert_alike(at_night, dict(zip(store.users([*shop.past]), [made.rows for made in computed], strict=True)))
    store.close()


def test_batch_stream_and_service_make_the_same_lists(spark: SparkSession, tmp_path: Path) -> None:
    shop = ParityShop.write(tmp_path / "shop", *SMALL, seed=1)
    assert AS_OF % DAY == 0
    check_parity(spark, shop, tmp_path)


@pytest.mark.slow
def test_a_thousand_users_get_the_same_lists_from_all_three(spark: SparkSession, tmp_path: Path) -> None:
    check_parity(spark, ParityShop.write(tmp_path / "shop", *LARGE, seed=2), tmp_path)
