"""ALS: matrix factorisation of implicit feedback by MLlib; users are folded in from their histories when scored."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from pyspark.ml import recommendation
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.recommenders import ALS
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.recommenders.factors import Factors

ENTRIES_A_BLOCK = 250_000
"""Pairs of the user-item matrix in one of MLlib's blocks; what is found depends on their number, so cores do not set
it."""
LEAST_BLOCKS = 2
ITEMS_AT_ONCE = 1 << 16
"""Items whose products are added to the Gram matrix at a time, in double precision."""


def fit(inputs: FitInputs) -> Facts:
    """Factorise the fit's user-item matrix and write the bundle: item factors and their Gram matrix, nothing of users.

    The driver holds the item factors, 4 bytes x items x rank; MLlib holds both sides on the executors while it runs.
    Given the seed and the data the factors are the same, on a cluster up to the rounding of sums whose terms arrive in
    another order.
    """
    settings = inputs.config.recommenders.als
    entries = inputs.matrix().where(F.col("weight") > 0)
    vectors = np.zeros((inputs.num_items, settings.rank), dtype=np.float32)
    if (total := entries.count()) > 0:
        blocks = max(LEAST_BLOCKS, math.ceil(total / ENTRIES_A_BLOCK))
        inputs.progress(f"{inputs.name}: {total:,} pairs in {blocks} blocks")
        before = _cached(entries)
        try:
            model = train(entries, settings, blocks, inputs.config.seed)
            _fill(vectors, inputs, model.itemFactors)
        finally:
            _free(entries, before)
    recommender = Factors(
        inputs.name,
        torch.from_numpy(vectors),
        torch.from_numpy(gram(vectors)),
        settings.reg,
        settings.alpha,
        settings.half_life_days,
    )
    recommender.save(inputs.output, inputs.vocabulary)
    return {"items_with_factors": int(recommender.has_vector_I.sum())}


def train(entries: DataFrame, settings: ALS, blocks: int, seed: int) -> recommendation.ALSModel:
    """MLlib's factors of the matrix entries (user_index, item, weight > 0)."""
    als = recommendation.ALS(
        rank=settings.rank,
        maxIter=settings.iterations,
        regParam=settings.reg,
        alpha=settings.alpha,
        implicitPrefs=True,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        seed=seed,
        userCol="user_index",
        itemCol="item",
        ratingCol="weight",
    )
    return als.fit(entries)


def gram(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Y^T Y [D, D] of the item factors Y [I, D], in double precision."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), ITEMS_AT_ONCE):
        part = vectors[start : start + ITEMS_AT_ONCE].astype(np.float64)
        total += part.T @ part
    return total


def _fill(vectors: NDArray[np.float32], inputs: FitInputs, factors: DataFrame) -> None:
    """Put the streamed factors (id, features array<float>) into the rows of their items."""
    with inputs.streamed(factors) as stream:
        for batch in stream():
            features = batch.column("features").flatten().to_numpy()
            vectors[batch.column("id").to_numpy()] = features.reshape(batch.num_rows, -1)


def _cached(frame: DataFrame) -> set[int]:
    """Numbers of the RDDs that the session caches."""
    return {int(number) for number in frame.sparkSession.sparkContext._jsc.getPersistentRDDs()}


def _free(frame: DataFrame, before: set[int]) -> None:
    """MLlib leaves its factors cached as RDDs, which no frame's unpersist reaches."""
    cached = frame.sparkSession.sparkContext._jsc.getPersistentRDDs()
    for number in list(cached):
        if int(number) not in before and cached[number].name() in ("userFactors", "itemFactors"):
            cached[number].unpersist()
