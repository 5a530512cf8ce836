"""EASE: closed-form item-item regression (Steck 2019, "Embarrassingly shallow autoencoders for sparse data")."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.linalg import lapack

from recsys_spark.errors import UserError
from recsys_spark.fitting.cooccurrence import Rows, map_blocks, user_rows
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.recommenders.ease import DenseItems

CELLS_A_BLOCK = 1 << 24
"""Numbers of a block's dense part of the Gram matrix: 64 MB."""
ENTRIES_A_CHUNK = 50_000_000
"""Entries of the user-item matrix that are handed to one task."""
GRAM_SCHEMA = "item int, row binary"
STRIP = 512
"""Rows of the weights that are filled at a time."""
WELL_CONDITIONED = 1e5
"""Largest condition number at which single precision is trusted: it leaves two digits."""


def fit(inputs: FitInputs) -> Facts:
    """Solve for the weights W = I - P / diag(P), P = (X^T X + l2 I)^-1, on the items that most users had.

    X_ui = log(1 + weight of the pair). At most `max_items` items I' take part, the others are never recommended
    (configuration refuses more than 20,000: item_knn and als cover a catalogue of any size). The driver holds I'^2
    float32 twice, or float64 where the ridge is too small for single precision; time grows with I'^3.
    """
    settings = inputs.config.recommenders.ease
    covered, share = _covered(inputs, settings.max_items)
    inputs.progress(
        f"{inputs.name}: {len(covered):,} of {inputs.num_items:,} items take part; they have {share:.1%} of the events"
    )
    weights = solve(_gram(inputs, covered), settings.l2)
    recommender = DenseItems(
        inputs.name,
        inputs.num_items,
        torch.from_numpy(covered),
        torch.from_numpy(weights),
        settings.half_life_days,
    )
    recommender.save(inputs.output, inputs.vocabulary)
    return {"covered_items": len(covered), "covered_share": share}


def solve(gram: NDArray[np.float32], l2: float) -> NDArray[np.float32]:
    """The weights W [I', I'] with zero diagonal that minimise |X - X W|^2 + l2 |W|^2; `gram` = X^T X is overwritten.

    Raises UserError where the matrix is not positive definite to working precision.
    """
    if not len(gram):
        return gram  # no item has weight, so none is covered
    diagonal = np.diag_indices_from(gram)
    # The largest row sum bounds the largest eigenvalue of a matrix without negative entries.
    condition = float(gram.sum(axis=1, dtype=np.float64).max()) / l2
    gram[diagonal] += l2
    single = condition < WELL_CONDITIONED
    matrix = gram.T if single else gram.astype(np.float64).T  # the transpose of a symmetric C array is Fortran-ordered
    factorise, invert = (lapack.spotrf, lapack.spotri) if single else (lapack.dpotrf, lapack.dpotri)
    factor, failed = factorise(matrix, lower=1, overwrite_a=1, clean=0)
    if not failed:
        factor, failed = invert(factor, lower=1, overwrite_c=1)
    if failed:
        raise UserError(f"recommenders.ease.l2: {l2} is too small for this data; raise it")
    return _weights(factor)


def _weights(inverse: NDArray[np.floating]) -> NDArray[np.float32]:
    """-P / diag(P) by columns with zero diagonal, from the lower triangle of P in Fortran order."""
    scale = -1.0 / np.diag(inverse)
    weights = inverse.T.astype(np.float32)  # C order; its upper triangle is P's, the lower one is filled in strips
    for start in range(0, len(weights), STRIP):
        strip = slice(start, start + STRIP)
        weights[strip, :start] = weights[:start, strip].T
        corner = np.triu(weights[strip, strip], 1)
        weights[strip, strip] = corner + corner.T
    weights *= scale.astype(np.float32)
    return weights


def _covered(inputs: FitInputs, max_items: int) -> tuple[NDArray[np.int64], float]:
    """Codes, ascending, of the items that most users had, ties to the smaller code; and their share of the events."""
    counts = inputs.matrix().where(F.col("weight") > 0).groupBy("item")
    users, events = inputs.item_values(
        counts.agg(F.count(F.lit(1)).alias("users"), F.sum("count").alias("events")), "users", "events"
    )
    covered = np.sort(np.argsort(-users, kind="stable")[: min(max_items, int((users > 0).sum()))]).astype(np.int64)
    return covered, round(float(events[covered].sum() / max(events.sum(), 1)), 4)


def _gram(inputs: FitInputs, covered: NDArray[np.int64]) -> NDArray[np.float32]:
    """X^T X [I', I'] float32 of the covered items; every cell is summed over ascending users, whatever the blocks."""
    size = len(covered)
    place = inputs.spark.createDataFrame(pa.table({"code": covered, "place": np.arange(size, dtype=np.int32)}))
    entries = (
        inputs.matrix()
        .where(F.col("weight") > 0)
        .join(F.broadcast(place), on=F.col("item") == F.col("code"), how="inner")
    )
    damped = entries.select("user_index", F.col("place").alias("item"), F.log1p("weight").alias("weight"))
    rows = user_rows(damped).persist(StorageLevel.MEMORY_AND_DISK)
    gram = np.zeros((size, size), dtype=np.float32)
    try:
        with inputs.streamed(_gram_rows(inputs, rows, size)) as stream:
            for batch in stream():
                for item, row in zip(batch.column("item").to_pylist(), batch.column("row"), strict=True):
                    gram[item] += np.frombuffer(row.as_buffer(), dtype=np.float32)
    finally:
        rows.unpersist()
    return gram


def _gram_rows(inputs: FitInputs, rows: DataFrame, size: int) -> DataFrame:
    """Rows (item, float32 bytes [I']) of the Gram matrix, several of an item where users are many: their sum counts."""
    num_blocks = max(inputs.spark.sparkContext.defaultParallelism, math.ceil(size * size / CELLS_A_BLOCK))
    total = rows.agg(F.sum(F.size("items").cast("bigint")).alias("entries")).first()
    chunks = max(1, math.ceil((total["entries"] or 0) / ENTRIES_A_CHUNK)) if total is not None else 1

    def of_block(block: int, part: Rows) -> pa.Table:
        own = np.flatnonzero(part.codes % num_blocks == block)
        dense = np.zeros((len(own), size), dtype=np.float32)
        dense[:, part.codes] = (part.matrix[:, own].T @ part.matrix).toarray()
        return pa.table(
            {
                "item": pa.array(part.codes[own], pa.int32()),
                "row": pa.array([row.tobytes() for row in dense], pa.binary()),
            }
        )

    return map_blocks(rows, num_blocks, of_block, GRAM_SCHEMA, chunks)
