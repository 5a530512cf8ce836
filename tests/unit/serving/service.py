"""A service over a small shop whose right answers are known without it.

Popularity puts dates first, then cheese, bread and ale; what was bought before comes before all that; ale and bread are
alike. Anna bought ale twice, and her stored list says so; Ben bought bread, and the store has no list of his.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from starlette.testclient import TestClient

from recsys_spark.config import Config
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.normalise import Normaliser
from recsys_spark.fusion.settings import Component, FusionSettings
from recsys_spark.online.history import batch_event_id
from recsys_spark.online.opening import open_configured
from recsys_spark.online.store import ListRow, Publication, StoredEvent, StoredList, UserState
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.factors import Factors
from recsys_spark.recommenders.history_rules import HistoryRules
from recsys_spark.serving.app import create_app
from recsys_spark.serving.keys import ApiKeys

ITEMS = ["ale", "bread", "cheese", "dates"]
DAY = 86400.0
WEIGHTS = {"purchase": 1.0, "view": 0.1, "click": 0.1}
SOURCE = {
    "format": "csv",
    "path": "x",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": "purchase",
}


def write_model(directory: Path, popular: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)) -> Path:
    """A model directory; `popular` are the items' counts."""
    work = directory.parent / f"{directory.name}-bundles"
    work.mkdir(parents=True)
    rows = [{"code": n, "item_index": n + 1, "item_id": name, "title": name.title()} for n, name in enumerate(ITEMS)]
    pq.write_table(pa.Table.from_pylist(rows), work / "vocabulary.parquet")
    vectors_ID = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    made = {
        "popularity": Counts("popularity", torch.tensor(popular), 7.0),
        "repurchase": HistoryRules("repurchase", torch.full((4,), 0.5), 30.0, (4,)),
        "als": Factors("als", vectors_ID, (vectors_ID.T @ vectors_ID).double(), 1.0, 1.0, None),
    }
    for name, recommender in made.items():
        recommender.save(work / name, work / "vocabulary.parquet")
    weights = {"repurchase": 100.0, "popularity": 0.1, "als": 0.001}
    components = tuple(Component(name, weight, Normaliser("none")) for name, weight in weights.items())
    settings = FusionSettings("weighted", components)
    bundles = {name: work / name for name in weights}
    both = {"allow": settings, "drop": settings}
    FusedModel.save(directory, bundles, bundles["popularity"], both, ("purchase",), WEIGHTS)
    return directory


def publication(model: Path, number: int = 1, as_of: float | None = None) -> Publication:
    return Publication(
        number=number,
        model=f"recsys-fused-{model.name}",
        model_path=str(model),
        as_of=time.time() - 60 if as_of is None else as_of,
        k=3,
        repeats="allow",
        made_at=time.time(),
        event_weights=WEIGHTS,
        manifest=file_sha256(model / MANIFEST),
    )


def bought(as_of: float, *items: str) -> tuple[StoredEvent, ...]:
    """Purchases ten days apart, the last one a day before `as_of`."""
    times = [as_of - DAY - 10 * DAY * place for place in reversed(range(len(items)))]
    return tuple(
        StoredEvent(batch_event_id(n), item, "purchase", 1.0, float(int(at)))
        for n, (item, at) in enumerate(zip(items, times, strict=True))
    )


def people(published: Publication) -> list[UserState]:
    rows = (ListRow(1, "ale", 9.5, "as stored", {"repurchase": 9.0, "als": 0.5}),)
    listed = StoredList(rows, published.model, published.number, 0, 2, published.made_at)
    return [
        UserState("anna", bought(published.as_of, "ale", "ale"), listed),
        UserState("ben", bought(published.as_of, "bread")),
    ]


def configured(folder: Path, settings: Mapping[str, Any] | None = None, **sections: Any) -> Config:
    """The configuration of a service that looks for new publications all the time."""
    serving = {"poll_seconds": 0.02, **(settings or {})}
    return Config.model_validate({"workspace": str(folder), "source": SOURCE, "serving": serving, **sections})


def publish(config: Config, published: Publication) -> None:
    store = open_configured(config)
    store.publish(published, people(published))
    store.close()


def app_of(config: Config, keys: tuple[str, ...] = ()) -> Any:
    return create_app(config, open_configured(config), ApiKeys(keys))


@contextmanager
def serving(config: Config, keys: tuple[str, ...] = (), number: int | None = 1) -> Iterator[TestClient]:
    """A client of the running service, once that answers for the publication of this number."""
    with TestClient(app_of(config, keys), raise_server_exceptions=False) as client:
        if number is not None:
            wait_for(client, number)
        yield client


def wait_for(client: TestClient, number: int) -> None:
    """Until the publication of this number answers."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if client.get("/ready").json().get("publication") == number:
            return
        time.sleep(0.01)
    raise AssertionError(f"publication {number} never answered")


def names(answer: Any) -> list[str]:
    """The items of a list, in order."""
    return [item["item_id"] for item in answer.json()["items"]]
