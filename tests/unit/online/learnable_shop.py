"""A fused model of recommenders that can learn online, over a few items, without files."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import torch
from torch import Tensor

from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import average
from recsys_spark.online.store import StoredEvent
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.factors import Factors
from recsys_spark.recommenders.neural import NeuralRecommender
from recsys_spark.recommenders.vocabulary import Vocabulary
from tests.stacking import batch_of
from tests.unit.models.steps import DIM, ITEMS, model

NAMES = [f"item-{code}" for code in range(ITEMS)]
HISTORIES: list[list[tuple[int, float]]] = [[(0, 3.0), (1, 2.0)], [(4, 9.0)], [], [(7, 5.0), (2, 5.0), (8, 1.0)]]
"""(code, age in days) of four users; the third has none."""


def network(name: str, user_encoder: str = "gru", scorer: str = "dot", loss: str = "sampled_softmax") -> Recommender:
    made = model(user_encoder, scorer, loss, seed=3).requires_grad_(False)
    with torch.no_grad():
        made.item_bias.weight.normal_(generator=torch.Generator().manual_seed(4))
    return NeuralRecommender(name, made.composition, made.eval().history_scorer())


def factors() -> Factors:
    vectors_ID = torch.randn(ITEMS, DIM, generator=torch.Generator().manual_seed(5)) / 3
    vectors_ID[6] = 0.0  # an item that was never sold has none
    return Factors("als", vectors_ID, (vectors_ID.T @ vectors_ID).double(), 0.1, 10.0, 90.0)


def fused(recommenders: Mapping[str, Recommender] | None = None) -> FusedModel:
    made = dict(recommenders or {"gru": network("gru"), "als": factors()})
    table = pa.table({"item_id": NAMES, "title": NAMES, "item_index": list(range(1, ITEMS + 1))})
    fallback = Counts("popularity", torch.arange(ITEMS).float(), 7.0)
    settings = average([*made])
    return FusedModel(
        made,
        fallback,
        {"allow": settings, "drop": settings},
        Vocabulary(table),
        ("purchase",),
        {"purchase": 1.0, "view": 0.1},
    )


def users() -> UserBatch:
    return batch_of(HISTORIES)


def stored(history: list[tuple[int, float]], now: float) -> tuple[StoredEvent, ...]:
    """The history as the online store keeps it, for a moment `now`."""
    return tuple(
        StoredEvent(f"e{place}", NAMES[code], "purchase", 1.0, now - age * 86_400)
        for place, (code, age) in enumerate(history)
    )


def scores(made: FusedModel, name: str) -> Tensor:
    return made.recommenders[name].score(users()).scores
