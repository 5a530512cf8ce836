"""A drawn shop: histories, and a fused model of real recommenders with drawn parameters, on disk as the jobs write it.

How fast a model scores does not hang on what it has learnt, only on its shape and on the histories. Popularity of items
and the items of histories follow Zipf's law; lengths of histories are geometric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import average
from recsys_spark.models.composed import ComposedModel
from recsys_spark.models.composition import Composition
from recsys_spark.recommenders.base import Recommender
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.ease import DenseItems
from recsys_spark.recommenders.factors import Factors
from recsys_spark.recommenders.history_rules import HistoryRules
from recsys_spark.recommenders.item_item import NeighbourItems
from recsys_spark.recommenders.neural import NeuralRecommender

HALF_LIFE = 90.0
NEIGHBOURS = 100
LONGEST = 50
"""Most events of a history, which is also what the encoders read."""
ZIPF = 0.9
DAYS = 180
NOW = 20_000 * 86_400
"""The moment of recommendation, in epoch seconds."""
PURCHASE = EVENT_TYPES.index("purchase")


class Sizes(NamedTuple):
    """How large the shop is."""

    users: int
    items: int
    width: int
    """Dimensions of every factor, user and item vector."""
    events: int
    """Mean events of a history."""
    ease_items: int
    """Most items that EASE covers."""


def popularity(sizes: Sizes) -> NDArray[np.float64]:
    """[I] the share of events that each item has; codes are in no order of it."""
    shares = 1.0 / np.arange(1, sizes.items + 1) ** ZIPF
    return np.random.default_rng(1).permutation(shares / shares.sum())


def write_histories(path: Path, sizes: Sizes) -> None:
    """The table `histories` as one Parquet file."""
    generator = np.random.default_rng(2)
    lengths = np.minimum(generator.geometric(1.0 / sizes.events, sizes.users), LONGEST)
    total = int(lengths.sum())
    users = np.repeat(np.arange(sizes.users), lengths)
    items = generator.choice(sizes.items, total, p=popularity(sizes))
    times = NOW - generator.integers(3_600, DAYS * 86_400, total)
    order = np.lexsort((times, users))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    columns = {
        "items": pa.array(items, pa.int32()),
        "event_types": pa.array(np.full(total, PURCHASE), pa.int32()),
        "weights": pa.array(np.ones(total), pa.float32()),
        "times": pa.array(times[order], pa.int64()),
        "folds": pa.array(np.zeros(total), pa.int32()),
    }
    table = pa.table(
        {
            "user_index": pa.array(np.arange(1, sizes.users + 1), pa.int32()),
            "user_id": pa.array([f"u{user}" for user in range(sizes.users)]),
            **{name: pa.ListArray.from_arrays(offsets, values) for name, values in columns.items()},
        }
    )
    pq.write_table(table, path, row_group_size=10_000)


def write_model(folder: Path, names: Sequence[str], sizes: Sizes) -> Path:
    """The fused model of the named recommenders, equal weights over z-scores, below a folder."""
    vocabulary = folder / "vocabulary.parquet"
    codes = np.arange(sizes.items)
    ids = pa.array([f"i{code}" for code in codes])
    numbers = {"code": pa.array(codes, pa.int32()), "item_index": pa.array(codes, pa.int32())}
    pq.write_table(pa.table({**numbers, "item_id": ids, "title": ids}), vocabulary)
    bundles = {}
    for name in {*names, "popularity"}:
        bundles[name] = folder / "bundles" / name
        MAKERS[name](name, sizes).save(bundles[name], vocabulary)
    settings = average(names)
    FusedModel.save(
        folder / "model",
        {name: bundles[name] for name in names},
        bundles["popularity"],
        {"allow": settings, "drop": settings},
        ["purchase"],
        {"purchase": 1.0},
    )
    return folder / "model"


def _popularity(name: str, sizes: Sizes) -> Recommender:
    return Counts(name, torch.from_numpy(1e6 * popularity(sizes)).float(), 7.0)


def _repurchase(name: str, sizes: Sizes) -> Recommender:
    propensity = torch.rand(sizes.items, generator=torch.Generator().manual_seed(3)).clamp_(min=0.01)
    return HistoryRules(name, propensity, HALF_LIFE, (PURCHASE,))


def _item_knn(name: str, sizes: Sizes) -> Recommender:
    """Every item has neighbours at the same drawn distances."""
    generator = np.random.default_rng(4)
    count = min(NEIGHBOURS, sizes.items - 1)
    distances = generator.choice(np.arange(1, sizes.items), count, replace=False)
    neighbours = np.sort((np.arange(sizes.items)[:, None] + distances) % sizes.items, axis=1)
    similarities = generator.random(neighbours.size, dtype=np.float32)
    indptr = torch.arange(0, neighbours.size + 1, count)
    flat = torch.from_numpy(neighbours.ravel().astype(np.int32))
    return NeighbourItems(name, indptr, flat, torch.from_numpy(similarities), HALF_LIFE)


def _ease(name: str, sizes: Sizes) -> Recommender:
    count = min(sizes.items, sizes.ease_items)
    covered = np.sort(np.argsort(-popularity(sizes))[:count])
    weights = torch.randn(count, count, generator=torch.Generator().manual_seed(5)).mul_(0.01)
    return DenseItems(name, sizes.items, torch.from_numpy(covered), weights.fill_diagonal_(0.0), HALF_LIFE)


def _als(name: str, sizes: Sizes) -> Recommender:
    generator = torch.Generator().manual_seed(6)
    vectors = torch.randn(sizes.items, sizes.width, generator=generator).mul_(0.1)
    return Factors(name, vectors, vectors.double().T @ vectors.double(), 0.1, 1.0, HALF_LIFE)


def _encoder(user_encoder: str) -> Callable[[str, Sizes], Recommender]:
    def make(name: str, sizes: Sizes) -> Recommender:
        composition = Composition(
            user_encoder=user_encoder, dim=sizes.width, num_items=sizes.items, max_length=LONGEST, layers=1
        )
        model = ComposedModel(composition)
        model.reset_parameters(torch.Generator().manual_seed(7))
        return NeuralRecommender(name, composition, model.eval().history_scorer())

    return make


MAKERS: dict[str, Callable[[str, Sizes], Recommender]] = {
    "popularity": _popularity,
    "repurchase": _repurchase,
    "item_knn": _item_knn,
    "ease": _ease,
    "als": _als,
    "mfn": _encoder("mean"),
    "gru": _encoder("gru"),
    "sasrec": _encoder("transformer"),
}
DENSE = ("als", "mfn", "gru", "sasrec")
"""Those whose scores are a product of two sides of the given width."""
