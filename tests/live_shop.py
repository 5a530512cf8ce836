"""A tiny shop with a published model, for tests of the stream: als, trending and popularity over twelve items."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.normalise import Normaliser
from recsys_spark.fusion.settings import Component, FusionSettings
from recsys_spark.online.sqlite_store import SqliteStore
from recsys_spark.online.store import Publication, StoredEvent, UserState
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.factors import Factors
from recsys_spark.recommenders.trend import Trend
from recsys_spark.streaming.judging import ARRIVED, EVENT_ID, MICROS

ITEMS = [f"i{number:02d}" for number in range(12)]
AS_OF = 1_700_000_000.0
WEIGHTS = {"purchase": 1.0, "click": 0.25}
TRENDING_HALF_LIFE = 2.0
BOUGHT_BEFORE = {"ann": ["i00", "i01"], "bob": ["i02"], "cat": ["i03", "i04", "i05"]}


def write_model(directory: Path) -> Path:
    """A fused model below `directory`; returns its folder."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = [{"code": n, "item_index": n + 1, "item_id": name, "title": name.title()} for n, name in enumerate(ITEMS)]
    vocabulary = directory / "vocabulary.parquet"
    pq.write_table(pa.Table.from_pylist(rows), vocabulary)
    torch.manual_seed(3)
    vectors_ID = torch.randn(len(ITEMS), 4) * 0.5
    gram_DD = (vectors_ID.double().T @ vectors_ID.double()).contiguous()
    counts_I = torch.arange(1.0, 13.0, dtype=torch.float64)
    made = {
        "als": Factors("als", vectors_ID, gram_DD, 0.1, 10.0, 30.0),
        "trending": Counts(
            "trending", torch.zeros(12), TRENDING_HALF_LIFE, "trending", Trend(counts_I, counts_I.clone(), AS_OF, 5.0)
        ),
        "popularity": Counts("popularity", counts_I.float() / 12, 30.0),
    }
    for name, recommender in made.items():
        recommender.save(directory / name, vocabulary)
    plain = Normaliser("none")
    settings = FusionSettings("weighted", (Component("als", 1.0, plain), Component("trending", 0.3, plain)))
    FusedModel.save(
        directory / "model",
        {name: directory / name for name in ("als", "trending")},
        directory / "popularity",
        {"allow": settings, "drop": settings},
        ("purchase",),
        WEIGHTS,
    )
    return directory / "model"


def published(model: Path, number: int = 1, name: str = "model-1", as_of: float = AS_OF) -> Publication:
    return Publication(
        number,
        name,
        str(model),
        as_of,
        5,
        "allow",
        as_of,
        event_weights=WEIGHTS,
        manifest=file_sha256(model / MANIFEST),
    )


def batch_users() -> list[UserState]:
    """What the batch knows: purchases a day apart, the last one a day before AS_OF."""
    states = []
    for user, items in BOUGHT_BEFORE.items():
        days = [AS_OF - 86400.0 * (len(items) - place) for place in range(len(items))]
        events = [
            StoredEvent(f"#{place:09d}", item, "purchase", 1.0, time)
            for place, (item, time) in enumerate(zip(items, days, strict=True))
        ]
        states.append(UserState(user, tuple(events)))
    return states


def opened(path: Path, max_history: int = 10_000) -> SqliteStore:
    return SqliteStore(path, max_history=max_history)


def shop(folder: Path) -> tuple[SqliteStore, Publication]:
    """A store below `folder` with the model's first publication."""
    publication = published(write_model(folder / "fitted"))
    store = opened(folder / "store.db")
    store.publish(publication, batch_users())
    return store, publication


def line(number: int, user: str, item: str, kind: str = "purchase", after: float = 0.0, **more: Any) -> dict[str, Any]:
    """An event as a line of a stream's file says it, `after` seconds after AS_OF."""
    told = {"event_id": f"e{number:05d}", "user_id": user, "item_id": item, "event_type": kind}
    return {**told, "event_time": AS_OF + after, **more}


def random_lines(count: int, seed: int, users: int = 6) -> list[dict[str, Any]]:
    """Events of old and new users, in no order of time, one of ten said twice, some by users of the batch."""
    draw = random.Random(seed)
    names = [*BOUGHT_BEFORE, *(f"new{number}" for number in range(users))]
    made = [
        line(number, draw.choice(names), draw.choice([*ITEMS, "unknown"]), draw.choice(["purchase", "click"]),
             after=draw.randrange(7200) + draw.randrange(4) / 4)
        for number in range(count)
    ]  # fmt: skip
    return [each for event in made for each in ([event, event] if draw.random() < 0.1 else [event])]


def judged_rows(lines: Sequence[dict[str, Any]], why: Sequence[str | None] | None = None, file: str = "f") -> pa.Table:
    """The lines as `streaming.judging` hands them over; `why` holds reasons against them."""
    reasons = why or [None] * len(lines)
    columns: dict[str, list[Any]] = {EVENT_ID: [each["event_id"] for each in lines]}
    for name in ("user_id", "item_id", "event_type", "order_id"):
        columns[name] = [each.get(name) for each in lines]
    for name in ("quantity", "price"):
        columns[name] = [each.get(name) for each in lines]
    columns[MICROS] = [None if each.get("event_time") is None else round(each["event_time"] * 1e6) for each in lines]
    columns["_why"] = list(reasons)
    columns["_source_file"] = [file] * len(lines)
    columns["_raw_row"] = [repr(each) for each in lines]
    columns[ARRIVED] = [round(AS_OF * 1e6)] * len(lines)
    text = pa.string()
    types = {MICROS: pa.int64(), ARRIVED: pa.int64(), "quantity": pa.float64(), "price": pa.float64()}
    return pa.table({name: pa.array(values, types.get(name, text)) for name, values in columns.items()})
