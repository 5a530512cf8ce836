"""Shares from tables are those that LightGBM computes row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightgbm import Dataset, train

from recsys_spark.fusion import tree_shares
from recsys_spark.fusion.tree_shares import ShareTables, _shapley
from recsys_spark.fusion.trees import Trees

FEATURES = 6
OWNERS = (0, 0, 1, 2, 1, 2, 3)
"""Of each feature, and last of the bias."""


def drawn(rows: int, seed: int) -> np.ndarray:
    """Features of which a fifth is not known, one never, one of few values."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(rows, FEATURES)).astype(np.float32)
    features[:, 1:4][draw.random((rows, 3)) < 0.2] = np.nan
    features[:, 5] = draw.integers(0, 3, rows)
    return features


@pytest.fixture(scope="module")
def trees() -> Trees:
    features = drawn(2000, 0)
    told = np.nan_to_num(features, nan=-1.0)
    label = told[:, 0] * told[:, 1] + np.sin(3 * told[:, 2]) + told[:, 4] * (told[:, 5] > 0) + (told[:, 3] > 0.5)
    settings = {"objective": "regression", "num_leaves": 12, "learning_rate": 0.3, "verbosity": -1, "seed": 1}
    return Trees(train(settings, Dataset(features, label), 25).model_to_string())


def summed(trees: Trees, features: np.ndarray) -> torch.Tensor:
    """What LightGBM says, by owner."""
    contributions = trees.contributions(torch.from_numpy(features))
    return torch.zeros(len(features), 4, dtype=torch.float64).index_add_(1, torch.tensor(OWNERS), contributions)


def test_shares_are_lightgbms_contributions_by_owner(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    features = drawn(150, 1)  # some portions
    features[0] = np.nan  # a feature that trees never saw unknown counts as 0
    assert ShareTables.of(trees.text, OWNERS[:-1], OWNERS[-1]) is not None
    found = trees.shares(torch.from_numpy(features), OWNERS)
    torch.testing.assert_close(found, summed(trees, features), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=1).float(), trees.scores(torch.from_numpy(features)))
    assert trees.shares(torch.zeros(0, FEATURES), OWNERS).shape == (0, 4)
    monkeypatch.setattr(tree_shares, "MOST_CELLS", 10)
    asked = Trees(trees.text)
    assert ShareTables.of(trees.text, OWNERS[:-1], OWNERS[-1]) is None
    torch.testing.assert_close(asked.shares(torch.from_numpy(features), OWNERS), found, rtol=0, atol=1e-6)


def test_trees_without_splits_are_their_value(trees: Trees) -> None:
    constant = train({"objective": "regression", "verbosity": -1}, Dataset(drawn(50, 2), np.ones(50)), 2)
    shares = Trees(constant.model_to_string()).shares(torch.from_numpy(drawn(3, 3)), OWNERS)
    assert shares.sum(dim=1).tolist() == pytest.approx([1.0] * 3)


def test_categories_are_left_to_lightgbm() -> None:
    features = drawn(500, 4)
    label = (features[:, 5] == 1) * 2.0 + features[:, 0]
    settings = {"objective": "regression", "verbosity": -1, "min_data_per_group": 1, "cat_smooth": 1.0}
    made = train(settings, Dataset(features, label, categorical_feature=[5]), 5)
    trees = Trees(made.model_to_string())
    assert ShareTables.of(trees.text, OWNERS[:-1], OWNERS[-1]) is None
    asked = drawn(20, 5)
    torch.testing.assert_close(trees.shares(torch.from_numpy(asked), OWNERS), summed(trees, asked))


def test_two_features_share_what_both_must_agree_to() -> None:
    """A leaf of value 1 at the end of two splits that half of the rows follow each: by hand, from the definition."""
    shares = _shapley(np.array([[0.5, 0.5]]))[0]
    neither, first, second, both = shares.tolist()
    assert neither == pytest.approx([-0.125, -0.125])  # together 0 - 1/4, by equals
    assert first == pytest.approx([0.5 * (0.5 * 0.5), -0.5 * (0.5 * 0.5 + 0.5 * 1.0)])
    assert second == pytest.approx(first[::-1])
    assert both == pytest.approx([0.375, 0.375])  # together 1 - 1/4, by equals
