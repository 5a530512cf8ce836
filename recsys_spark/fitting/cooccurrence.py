"""Products X^T X of the user-item matrix, exactly, by blocks of items, without listing pairs.

Item i belongs to block i mod P. A block gets the whole rows of the users who touch it, so that its part of the product,
X_block^T X, is computed at once by sparse multiplication inside one Spark task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

PRODUCTS_A_BLOCK = 50_000_000
"""Multiplications that one block of items should cost, which also bounds the entries shipped to it."""
PRODUCTS_A_CHUNK = 10_000_000
"""Multiplications, hence most entries, of a product that is held at a time: 12 bytes each."""


@dataclass(frozen=True)
class Rows:
    """Rows of the user-item matrix that reached a task, users ascending, as a sparse matrix over the items present."""

    matrix: sp.csr_matrix
    """[users, items present] float32."""
    codes: NDArray[np.int64]
    """[items present] ascending: the item of each column."""
    sizes: NDArray[np.int64]
    """[users]: entries of each user."""


def user_rows(entries: DataFrame, max_history: int | None = None) -> DataFrame:
    """Rows (user_index, items array<int> ascending, weights array<float>) from entries (user_index, item, weight).

    Where `max_history` is given, entries hold `last_time` too, and the most recent that many of each user are kept.
    """
    if max_history is None:
        kept: Column = F.collect_list(F.struct("item", "weight"))
    else:
        newest = F.sort_array(F.collect_list(F.struct((-F.col("last_time")).alias("age"), "item", "weight")))
        kept = F.transform(
            F.slice(newest, 1, max_history), lambda e: F.struct(e["item"].alias("item"), e["weight"].alias("weight"))
        )
    row = F.sort_array(kept).alias("row")
    return (
        entries.groupBy("user_index")
        .agg(row)
        .select(
            "user_index",
            F.col("row.item").cast("array<int>").alias("items"),
            F.col("row.weight").cast("array<float>").alias("weights"),
        )
    )


def blocks_for(products: int, slots: int) -> int:
    """Number of blocks P for a product of so many multiplications: enough to bound memory and to keep `slots` busy."""
    return max(2 * slots, math.ceil(products / PRODUCTS_A_BLOCK))


def map_blocks(
    rows: DataFrame, num_blocks: int, function: Callable[[int, Rows], pa.Table], schema: str, chunks: int = 1
) -> DataFrame:
    """Apply `function(block, rows)` to each block of items, with the rows of the users who touch it.

    With `chunks` > 1 a block is handed out once for each share of the users (user_index mod chunks): partial results.
    """
    touched = F.array_distinct(F.transform("items", lambda item: F.pmod(item, F.lit(num_blocks))))
    shipped = rows.select(
        F.explode(touched).alias("block"),
        F.pmod("user_index", F.lit(chunks)).alias("chunk"),
        "user_index",
        "items",
        "weights",
    )

    def of_group(key: tuple[pa.Scalar, ...], table: pa.Table) -> pa.Table:
        return function(key[0].as_py(), rows_of(table))

    # The number of partitions is given, so that adaptive execution does not merge the blocks into one task.
    grouped = shipped.repartition(num_blocks * chunks, "block", "chunk").groupBy("block", "chunk")
    return grouped.applyInArrow(of_group, schema)


def rows_of(table: pa.Table) -> Rows:
    """The sparse matrix of a table (user_index, items, weights), whatever the order of its rows."""
    ordered = table.take(np.argsort(table["user_index"].to_numpy(), kind="stable"))
    items, weights = ordered["items"].combine_chunks(), ordered["weights"].combine_chunks()
    sizes = items.value_lengths().to_numpy().astype(np.int64)
    codes, columns = np.unique(items.flatten().to_numpy(), return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    values = weights.flatten().to_numpy().astype(np.float32)
    matrix = sp.csr_matrix((values, columns, offsets), shape=(len(sizes), len(codes)))
    return Rows(matrix=matrix, codes=codes.astype(np.int64), sizes=sizes)


def products(rows: Rows, num_blocks: int, block: int) -> Iterator[tuple[NDArray[np.int64], sp.csr_matrix]]:
    """The block's rows of X^T X, a bounded chunk at a time: (columns of the chunk's items, [chunk, items present])."""
    own = np.flatnonzero(rows.codes % num_blocks == block)
    transposed = rows.matrix[:, own].T.tocsr()
    counted = sp.csr_matrix((np.ones_like(transposed.data), transposed.indices, transposed.indptr), transposed.shape)
    chunk = np.cumsum(counted @ rows.sizes) // PRODUCTS_A_CHUNK
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(chunk)) + 1, [len(own)]]).astype(np.int64)
    for low, high in pairwise(bounds):
        part = (transposed[low:high] @ rows.matrix).tocsr()
        part.sort_indices()
        yield own[low:high], part
