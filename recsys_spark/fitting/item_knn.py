"""Item-kNN: the nearest neighbours of each item by BM25-weighted co-occurrence, multiplied out by Spark in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.fitting.cooccurrence import Rows, blocks_for, map_blocks, user_rows
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.fitting.neighbours import NEIGHBOUR_SCHEMA, assemble, nearest
from recsys_spark.recommenders.item_item import NeighbourItems


@dataclass(frozen=True)
class BM25:
    """BM25 with users as documents and items as their words (Robertson and Zaragoza 2009, Lucene's positive idf).

    w_ui = idf_i x c (k1 + 1) / (c + k1 (1 - b + b n_u / mean n)), c the weight of the pair, n_u that of
    the user, idf_i = log(1 + (U - U_i + 0.5) / (U_i + 0.5)) over U users, U_i of whom had the item.
    """

    k1: float
    b: float
    mean_length: float
    """Mean total weight of a user."""
    idf: NDArray[np.float32]
    """[I] inverse user frequency of each item."""

    def weigh(self, rows: Rows) -> Rows:
        """The rows with their weights replaced."""
        weighted = rows.matrix.copy()
        lengths = np.asarray(weighted.sum(axis=1)).ravel()
        damping = self.k1 * (1 - self.b + self.b * lengths / self.mean_length)
        counts = weighted.data
        saturated = counts * (self.k1 + 1) / (counts + np.repeat(damping, rows.sizes))
        weighted.data = (saturated * self.idf[rows.codes[weighted.indices]]).astype(np.float32)
        return Rows(matrix=weighted, codes=rows.codes, sizes=rows.sizes)


def fit(inputs: FitInputs) -> Facts:
    """Find every item's `neighbours` nearest neighbours and write the bundle.

    The driver holds the result alone, 8 bytes a neighbour; a task holds the rows of one block of items.
    """
    settings = inputs.config.recommenders.item_knn
    entries = inputs.matrix().where(F.col("weight") > 0)
    rows = user_rows(entries, settings.max_history).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        indptr, neighbours, similarities = _neighbours(inputs, rows)
    finally:
        rows.unpersist()
    recommender = NeighbourItems(inputs.name, indptr, neighbours, similarities, settings.half_life_days)
    recommender.save(inputs.output, inputs.vocabulary)
    return {"neighbours": int(neighbours.numel())}


def _neighbours(inputs: FitInputs, rows: DataFrame) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    settings = inputs.config.recommenders.item_knn
    size = F.size("items").cast("bigint")
    length = F.aggregate("weights", F.lit(0.0), lambda total, weight: total + weight)
    totals = rows.agg(
        F.count(F.lit(1)).alias("users"), F.sum(length).alias("length"), F.sum(size * size).alias("products")
    ).first()
    if totals is None or not totals["users"]:
        return torch.zeros(inputs.num_items + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32), torch.zeros(0)
    (had,) = inputs.item_values(
        rows.select(F.explode("items").alias("item")).groupBy("item").agg(F.count(F.lit(1)).alias("users")), "users"
    )
    idf = np.log1p((totals["users"] - had + 0.5) / (had + 0.5)).astype(np.float32)
    weighting = inputs.spark.sparkContext.broadcast(
        BM25(settings.k1, settings.b, totals["length"] / totals["users"], idf)
    )
    num_blocks = blocks_for(totals["products"], inputs.spark.sparkContext.defaultParallelism)
    inputs.progress(f"{inputs.name}: {totals['products']:,} products in {num_blocks} blocks")

    def of_block(block: int, part: Rows) -> pa.Table:
        return nearest(weighting.value.weigh(part), num_blocks, block, settings.neighbours)

    try:
        return assemble(inputs, map_blocks(rows, num_blocks, of_block, NEIGHBOUR_SCHEMA))
    finally:
        weighting.destroy()
