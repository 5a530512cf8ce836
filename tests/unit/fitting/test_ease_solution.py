from __future__ import annotations

import numpy as np
import pytest

from recsys_spark.errors import UserError
from recsys_spark.fitting import ease


def expected(gram, l2):
    """The closed form of the paper, in double precision, by a general inverse."""
    inverse = np.linalg.inv(gram.astype(np.float64) + l2 * np.eye(len(gram)))
    weights = -inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(weights, 0.0)
    return weights


@pytest.mark.parametrize("strip", [7, 512])
@pytest.mark.parametrize("l2", [0.001, 5.0, 500.0])
def test_the_weights_are_the_closed_form(monkeypatch, strip, l2):
    monkeypatch.setattr(ease, "STRIP", strip)
    entries = (np.random.default_rng(2).random((200, 40)) < 0.2).astype(np.float32)
    gram = entries.T @ entries
    weights = ease.solve(gram.copy(), l2)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected(gram, l2), atol=1e-4)


def test_two_items_by_hand():
    # G = [[2, 1], [1, 2]], l2 = 1: W_12 = G_12 / (G_11 + l2) = 1/3 by the normal equations.
    weights = ease.solve(np.array([[2, 1], [1, 2]], dtype=np.float32), 1.0)
    np.testing.assert_allclose(weights, [[0, 1 / 3], [1 / 3, 0]], rtol=1e-6)


def test_a_ridge_too_small_for_the_data_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"recommenders.ease.l2"):
        ease.solve(np.array([[1, 2], [2, 1]], dtype=np.float32), 0.5)
