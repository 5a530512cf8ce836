"""Ranking metrics of blocks of lists, from which places hold relevant items.

The formulas are those of `evaluation.metrics`, which says them in full. Legend: U users, L lists of a user (a model and
a mode of repeats), K places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
METRICS = ("ndcg", "recall", "precision", "hit_rate", "map", "mrr")


def ranking_metrics(
    hits: Bools, relevant: Ints, ks: Sequence[int], metrics: Sequence[str] = METRICS
) -> dict[tuple[str, int], Floats]:
    """(metric, k) to its [U, L] values; 0 where nothing is relevant.

    `hits` [U, L, K] tells where a list holds a relevant item, `relevant` [U, L] how many there are.
    """
    places = np.arange(1, hits.shape[2] + 1)
    gains = np.cumsum(hits / np.log2(places + 1.0), axis=2)
    found = np.cumsum(hits, axis=2)
    precisions = np.cumsum(hits * (found / places), axis=2)
    first = np.where(hits.any(axis=2), hits.argmax(axis=2) + 1, 0)
    ideals = np.concatenate([[1.0], np.cumsum(1.0 / np.log2(places + 1.0))])
    ideals[0] = ideals[1] if len(ideals) > 1 else 1.0  # of users with nothing relevant, whose gains are 0
    values: dict[tuple[str, int], Floats] = {}
    for k in ks:
        last = min(k, hits.shape[2]) - 1
        possible = np.minimum(relevant, k)
        shares = np.maximum(possible, 1)
        at_k = {
            "ndcg": gains[:, :, last] / ideals[np.minimum(possible, last + 1)],
            "recall": found[:, :, last] / shares,
            "precision": found[:, :, last] / k,
            "hit_rate": (found[:, :, last] > 0).astype(np.float64),
            "map": precisions[:, :, last] / shares,
            "mrr": np.where((first > 0) & (first <= k), 1.0 / np.maximum(first, 1), 0.0),
        }
        values |= {(name, k): at_k[name] for name in metrics}
    return values
