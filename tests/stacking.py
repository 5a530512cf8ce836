"""What tests of fusions over candidates share: recommenders whose scores are written down, histories, item columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import torch
from torch import Tensor

from recsys_spark.fusion.features import feature_names
from recsys_spark.fusion.item_columns import ItemColumns
from recsys_spark.fusion.trees import Trees
from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.histories import ragged_batch

PURCHASE, VIEW = 4, 1
COUNTS = ("purchases", "purchases_7", "purchases_30", "purchases_90")


class Written(Recommender):
    """Scores written down beforehand: row n of the table for the user with index n."""

    kind = "written"

    def __init__(self, name: str, table: Tensor, can_score: Tensor | None = None, silent: float | None = None) -> None:
        super().__init__(name, table.shape[1])
        self.table = table
        self.can = torch.ones(len(table), dtype=torch.bool) if can_score is None else can_score
        self.silent_score = silent  # type: ignore[misc]
        self.whole = 0
        """How often the whole catalogue was scored."""

    def score(self, batch: UserBatch) -> Scores:
        self.whole += 1
        can = self.can_score(batch)
        return Scores(self.table[batch.user_index] * can[:, None], can)

    def can_score(self, batch: UserBatch) -> Tensor:
        return self.can[batch.user_index]

    def score_items(self, batch: UserBatch, items_BK: Tensor) -> Tensor:
        return self.table[batch.user_index].gather(1, items_BK) * self.can_score(batch)[:, None]

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        return Evidence("popular", torch.full_like(items_BK, -1), torch.full(items_BK.shape, torch.nan))

    def save(self, path: Path, vocabulary: Path) -> None:
        raise AssertionError("not needed here")

    @classmethod
    def load(cls, bundle: object) -> Written:
        raise AssertionError("not needed here")


def plain_columns(count: int, **given: Tensor) -> ItemColumns:
    """Columns of `count` items of which nothing is known, but for those that are given."""
    zero, none = torch.zeros(count), torch.full((count,), torch.nan)
    plain = {
        **{name: zero.clone() for name in (*COUNTS, "buyers", "new_14", "new_30", "new_60", "age")},
        **{name: none.clone() for name in ("repeat_share", "interval", "idle", "price")},
        **{name: torch.zeros(count, dtype=torch.int64) for name in ("category", "brand", "title")},
    }
    return ItemColumns(**{**plain, **given})


def batch_of(histories: list[list[tuple[int, float]]]) -> UserBatch:
    """Purchases as (item code, age in days), oldest first; the users have the indices 0, 1, ..."""
    events = [(user, item, age) for user, history in enumerate(histories) for item, age in history]
    users, items, ages = (np.array([event[place] for event in events], dtype=np.float64) for place in range(3))
    return ragged_batch(
        items.astype(np.int64),
        np.full(len(events), PURCHASE, dtype=np.int64),
        np.ones(len(events), dtype=np.float32),
        ages,
        users.astype(np.int64),
        len(histories),
        np.arange(len(histories)),
    )


def viewed(batch: UserBatch, events: list[int]) -> UserBatch:
    """The batch with some of its events as views."""
    types = batch.event_types.clone()
    types[events] = VIEW
    return replace(batch, event_types=types)


def tiny_trees(names: tuple[str, ...], wanted: str) -> Trees:
    """Trees that were trained on nothing but that high values of the feature `wanted` are relevant."""
    random = np.random.default_rng(0)
    features = feature_names(names)
    table = random.normal(size=(400, len(features))).astype(np.float32) * 5
    label = (table[:, features.index(wanted)] > 4).astype(np.int32)
    data = lightgbm.Dataset(table, label=label, group=[20] * 20, feature_name=list(features))
    parameters = {"objective": "lambdarank", "verbosity": -1, "min_data_in_leaf": 5, "num_threads": 1}
    return Trees(lightgbm.train(parameters, data, num_boost_round=10).model_to_string())
