"""ALS: users folded in from their histories are those of MLlib, whatever the batch; nothing stays cached."""

from __future__ import annotations

import numpy as np
import torch

from recsys_spark.config.recommenders import ALS
from recsys_spark.fitting.als import _cached, _free, gram, train
from recsys_spark.recommenders import factors
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.factors import Factors

SETTINGS = ALS(rank=5, iterations=2, reg=0.3, alpha=4.0, half_life_days=None)
USERS, ITEMS = 12, 9


def test_a_user_folded_in_has_the_factors_that_mllib_gave_him(spark, monkeypatch):
    draw = np.random.default_rng(3)
    own = [np.sort(draw.choice(ITEMS, size=1 + user % 6, replace=False)) for user in range(USERS)]
    weights = [draw.integers(1, 5, size=len(items)) / 2 for items in own]
    rows = [
        (user, int(item), float(weight))
        for user in range(USERS)
        for item, weight in zip(own[user], weights[user], strict=True)
    ]
    entries = spark.createDataFrame(rows, "user_index int, item int, weight float")
    before = _cached(entries)
    model = train(entries, SETTINGS, 2, seed=7)
    users = {row["id"]: row["features"] for row in model.userFactors.collect()}
    vectors = np.zeros((ITEMS, SETTINGS.rank), dtype=np.float32)
    for row in model.itemFactors.collect():
        vectors[row["id"]] = row["features"]
    _free(entries, before)
    assert _cached(entries) == before

    lengths = [len(items) for items in own]
    batch = UserBatch(
        items=torch.from_numpy(np.concatenate(own)),
        event_types=torch.full((sum(lengths),), 4),
        weights=torch.from_numpy(np.concatenate(weights)).float(),
        ages=torch.from_numpy(draw.random(sum(lengths)) * 100).float(),  # without a half-life they do not matter
        offsets=torch.tensor([0, *np.cumsum(lengths)]),
    )
    recommender = Factors(
        "als", torch.from_numpy(vectors), torch.from_numpy(gram(vectors)), SETTINGS.reg, SETTINGS.alpha, None
    )
    expected = torch.tensor([users[user] for user in range(USERS)])
    torch.testing.assert_close(recommender.users(batch), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(factors, "CELLS_AT_ONCE", 1)  # every user in a portion of its own
    torch.testing.assert_close(recommender.users(batch), expected, rtol=1e-4, atol=1e-5)


def test_items_without_factors_say_nothing():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.5, 2.0]])
    recommender = Factors("als", vectors, torch.from_numpy(gram(vectors.numpy())), 0.1, 2.0, 30.0)

    def batch(*items: int) -> UserBatch:
        count = len(items)
        return UserBatch(
            torch.tensor(items, dtype=torch.int64),
            torch.full((count,), 4),
            torch.ones(count),
            torch.zeros(count),
            torch.tensor([0, count]),
        )

    assert not recommender.score(batch(1)).can_score.item()
    torch.testing.assert_close(recommender.score(batch(0, 1)).scores, recommender.score(batch(0)).scores)
