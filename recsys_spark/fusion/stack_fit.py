"""Training the stacked fusion: LightGBM's LambdaRank (Burges 2010), its number of trees by cross-validation over users.

Where fewer trees are best than may be grown, boosters of other seeds are grown as well and all are added up (Breiman
1996, bagging): few trees on few buyers vary much with the features that each draws, and their sum varies less.

Each user is ranked once by trees that never saw him, at no moment; the mean NDCG@K of these rankings is what stacking
is compared by. Everything follows from the table, the settings and the seed. Legend: U users at a moment, N candidates,
F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys_spark.fusion.ranking_table import RankingTable
from recsys_spark.fusion.trees import Trees

THREADS = 2
"""LightGBM's results do not depend on it under `deterministic`; it is fixed all the same."""
STEP = 10
"""Numbers of trees are told apart in steps of so many."""
LEAST_USERS = 30
"""Fewer users with something to find are not trained on."""


@dataclass(frozen=True)
class StackSettings:
    """How trees are grown."""

    num_trees: int = 200
    """At most in all, and at least STEP; the cross-validation finds how many a booster has."""
    learning_rate: float = 0.05
    num_leaves: int = 15
    min_rows_in_leaf: int = 50
    feature_share: float = 0.7
    """Share of the features that each tree may use."""
    l2: float = 10.0
    folds: int = 3
    """Parts of the users in the cross-validation."""


@dataclass(frozen=True)
class FittedStack:
    """What training found."""

    trees: Trees
    num_trees: int
    """Of each booster."""
    num_boosters: int
    """So many were added up."""
    held_out: npt.NDArray[np.float64]
    """[U] NDCG@K of each user's ranking at each moment, by the trees of one booster that never saw him."""
    importance: dict[str, float]
    """Share of each feature in the gain of all splits."""


def fit_stack(table: RankingTable, k: int, settings: StackSettings, seed: int) -> FittedStack | None:
    """Trees that rank the candidates of a table for NDCG@K; None where too few users have a label to learn from."""
    folds = settings.folds
    labelled = np.bincount(table.users, table.label, minlength=len(table.lengths)) > 0
    if labelled.sum() < LEAST_USERS:
        return None
    part = _folds(table.people, labelled, folds, seed)
    steps = list(range(STEP, settings.num_trees + 1, STEP))
    curves = np.zeros((len(steps), len(labelled)))
    for fold in range(folds):
        own = part == fold
        booster = _train(table, labelled & ~own, k, settings, seed, steps[-1])
        rows = own[table.users]
        held_out = table.features[rows]
        scores = np.zeros(len(rows))
        for place in range(len(steps)):
            scores[rows] += booster.predict(
                held_out, start_iteration=place * STEP, num_iteration=STEP, num_threads=THREADS
            )
            curves[place, own] = table.ndcg(scores, k)[own]
    best = int(np.argmax(curves[:, _at_start(table)].mean(axis=1)))
    seeds = range(seed, seed + settings.num_trees // steps[best])
    boosters = [_train(table, labelled, k, settings, each, steps[best]) for each in seeds]
    gain = np.sum([booster.feature_importance("gain") for booster in boosters], axis=0)
    return FittedStack(
        trees=Trees.added_up(boosters),
        num_trees=steps[best],
        num_boosters=len(boosters),
        held_out=curves[best],
        importance=dict(zip(table.names, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True)),
    )


def _at_start(table: RankingTable) -> npt.NDArray[np.bool_]:
    """[U] the users at the window's start, by whom numbers of trees are told apart; all where nobody stands there."""
    first = table.moments == 0
    return first if first.any() else ~first


def _folds(
    people: npt.NDArray[np.int64], labelled: npt.NDArray[np.bool_], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """[U] the fold of each user, the same at all of his moments.

    By turns among those who have a label at some moment and the others, in a seeded order: each fold has as many.
    """
    _, person = np.unique(people, return_inverse=True)
    any_label = np.bincount(person, labelled) > 0
    order = np.random.default_rng(seed).permutation(len(any_label))
    order = order[np.argsort(any_label[order], kind="stable")]
    part = np.empty(len(any_label), dtype=np.int64)
    part[order] = np.arange(len(order)) % folds
    return np.asarray(part[person])


def _train(
    table: RankingTable, users: npt.NDArray[np.bool_], k: int, settings: StackSettings, seed: int, trees: int
) -> Any:
    import lightgbm  # here: it takes a second to import, and other fusions do without it

    rows = users[table.users]
    dataset = lightgbm.Dataset(
        table.features[rows],
        label=table.label[rows].astype(np.int32),
        group=table.lengths[users],
        feature_name=list(table.names),
        free_raw_data=True,
    )
    parameters = {
        "objective": "lambdarank",
        "lambdarank_truncation_level": 2 * k,
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_rows_in_leaf,
        "feature_fraction": settings.feature_share,
        "lambda_l2": settings.l2,
        "max_bin": 63,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": THREADS,
        "seed": seed,
        "verbosity": -1,
    }
    return lightgbm.train(parameters, dataset, num_boost_round=trees)
