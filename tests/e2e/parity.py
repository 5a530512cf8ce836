"""A shop whose lists can be made by the batch job, the stream and the service: a model of many kinds, and histories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import average
from recsys_spark.models.composed import ComposedModel
from recsys_spark.models.composition import Composition
from recsys_spark.online.events import LiveEvent
from recsys_spark.online.history import batch_event_id
from recsys_spark.online.store import ListRow, Publication, StoredEvent, StoredList, UserState
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.factors import Factors
from recsys_spark.recommenders.history_rules import HistoryRules
from recsys_spark.recommenders.neural import NeuralRecommender
from recsys_spark.recommenders.trend import rise
from recsys_spark.scoring.blocks import Moment
from recsys_spark.scoring.recommend import recommendation_rows
from recsys_spark.scoring.shipping import ship
from recsys_spark.tables.schemas import TABLES

DAY = 86_400
AS_OF = 1_700_006_400
"""A midnight in November 2023."""
WEIGHTS = {"purchase": 1.0, "view": 0.1}
K = 5
Event = tuple[str, str, str, float]
"""Event id, item, type, epoch seconds."""
Lists = dict[str, list[ListRow]]


@dataclass(frozen=True)
class ParityShop:
    """Users with events before AS_OF and, three quarters of them, live ones after it."""

    model: Path
    items: int
    past: dict[str, list[Event]]
    live: dict[str, list[Event]]

    @classmethod
    def write(cls, folder: Path, users: int, items: int, seed: int) -> ParityShop:
        """The model below `folder`. Live times are fractions of a second, and some events are of one moment."""
        draw = np.random.default_rng(seed)
        past: dict[str, list[Event]] = {}
        live: dict[str, list[Event]] = {}

        def event(name: str, time: float, known: int = items) -> Event:
            kind = "purchase" if draw.random() < 0.6 else "view"
            return name, item_id(int(draw.integers(known))), kind, time

        for number in range(users):
            user = f"u{number:04d}"
            times = np.sort(draw.integers(AS_OF - 60 * DAY, AS_OF, size=draw.integers(0, 25))).tolist()
            # One item of the past the model does not know.
            past[user] = [event(batch_event_id(place), float(time), items + 1) for place, time in enumerate(times)]
            moments = [] if number % 4 == 0 else (AS_OF + np.sort(draw.random(draw.integers(1, 4))) * DAY).tolist()
            live[user] = [event(f"{user}-{n}-{place}", at) for place, at in enumerate(moments) for n in range(2)]
            live[user].sort(key=lambda each: (each[3], each[0]))
        return cls(write_model(folder, items, draw), items, past, live)

    @property
    def publication(self) -> Publication:
        manifest = file_sha256(self.model / MANIFEST)
        return Publication(1, "parity", str(self.model), AS_OF, K, "allow", AS_OF, "one", WEIGHTS, manifest)

    @property
    def active(self) -> list[str]:
        """Users with live events."""
        return [user for user, events in self.live.items() if events]

    def live_events(self) -> list[LiveEvent]:
        """All live events in the order of time, as they come in."""
        told = [
            LiveEvent(name, user, item, kind, time)
            for user, events in self.live.items()
            for name, item, kind, time in events
        ]
        return sorted(told, key=lambda event: (event.event_time, event.event_id))

    def batch_lists(self, spark: SparkSession, with_live: bool) -> Lists:
        """Lists by the batch job: of all users at AS_OF; or of the active ones with all events, at their newest."""
        users = self.active if with_live else [*self.past]
        frame = self._histories(spark, users, with_live)
        moment = Moment((0,), None if with_live else AS_OF)
        made = recommendation_rows(frame, ship(spark, self.model), moment, K, "allow", 1 << 24)
        lists: Lists = {user: [] for user in users}
        for row in made.orderBy("user_id", "rank").collect():
            parts = dict(row["components"])
            lists[row["user_id"]].append(ListRow(row["rank"], row["item_id"], row["score"], row["reason"], parts))
        return lists

    def _histories(self, spark: SparkSession, users: Iterable[str], with_live: bool) -> DataFrame:
        """The table `histories`, whose times are whole seconds."""
        rows = []
        for number, user in enumerate(users):
            events = [*self.past[user], *(self.live[user] if with_live else ())]
            items = [int(item.removeprefix("i")) + 1 for _, item, _, _ in events]
            types = [EVENT_TYPES.index(kind) for _, _, kind, _ in events]
            weights = [WEIGHTS[kind] for _, _, kind, _ in events]
            times = [int(time) for *_, time in events]
            rows.append((number + 1, user, items, types, weights, times, [0] * len(events)))
        return spark.createDataFrame(rows, TABLES["histories"].schema).coalesce(1)  # one worker loads the model

    def states(self, lists: Mapping[str, list[ListRow]]) -> list[UserState]:
        """What a publication loads."""
        made = {user: StoredList(tuple(rows), "parity", 1, 0, len(self.past[user])) for user, rows in lists.items()}
        return [UserState(user, self._stored(user), made[user]) for user in self.past]

    def _stored(self, user: str) -> tuple[StoredEvent, ...]:
        return tuple(StoredEvent(name, item, kind, WEIGHTS[kind], at) for name, item, kind, at in self.past[user])


def item_id(code: int) -> str:
    return f"i{code:04d}"


def write_model(folder: Path, items: int, draw: np.random.Generator) -> Path:
    """Popularity, trending, repurchase, GRU and ALS with drawn parameters, fused by their average.

    The trending bundle does not say what it was made of, so that live counts, which no batch knows, do not move it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [item_id(code) for code in range(items)]
    indices = list(range(1, items + 1))
    table = pa.table({"code": list(range(items)), "item_index": indices, "item_id": names, "title": names})
    pq.write_table(table, folder / "vocabulary.parquet")
    made = _recommenders(items, draw)
    for name, recommender in made.items():
        recommender.save(folder / "bundles" / name, folder / "vocabulary.parquet")
    bundles = {name: folder / "bundles" / name for name in made}
    settings = average([*made])
    both = {"allow": settings, "drop": settings}
    FusedModel.save(folder / "model", bundles, bundles["popularity"], both, ("purchase",), WEIGHTS)
    return folder / "model"


def _recommenders(items: int, draw: np.random.Generator) -> dict[str, Recommender]:
    short, long = draw.random(items) * 9, draw.random(items) * 40
    composition = Composition(
        user_encoder="gru", scorer="dot", loss="sampled_softmax", dim=8, num_items=items, max_length=10, time_gaps=True
    )
    network = ComposedModel(composition)
    network.reset_parameters(torch.Generator().manual_seed(1))
    vectors_ID = torch.from_numpy(draw.normal(size=(items, 6)).astype(np.float32))
    return {
        "popularity": Counts("popularity", torch.from_numpy(draw.random(items).astype(np.float32)), 7.0),
        "trending": Counts("trending", torch.from_numpy(rise(short, long, 3.0)).float(), 3.0, "trending"),
        "repurchase": HistoryRules("repurchase", torch.full((items,), 0.5), 30.0, (EVENT_TYPES.index("purchase"),)),
        "gru": NeuralRecommender("gru", composition, network.requires_grad_(False).eval().history_scorer()),
        "als": Factors("als", vectors_ID, (vectors_ID.T @ vectors_ID).double(), 0.1, 5.0, 60.0),
    }
