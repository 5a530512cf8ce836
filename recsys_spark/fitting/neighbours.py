"""The nearest neighbours of items: chosen in a block's task, put together on the driver."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys_spark.fitting.cooccurrence import Rows, products
from recsys_spark.fitting.inputs import FitInputs

NEIGHBOUR_SCHEMA = "item int, neighbours array<int>, similarities array<float>"


def nearest(rows: Rows, num_blocks: int, block: int, neighbours: int) -> pa.Table:
    """The nearest neighbours of the block's items: never the item itself, ties to the smaller code, by code."""
    items: list[int] = []
    offsets = [0]
    kept_codes: list[NDArray[np.int64]] = []
    kept_values: list[NDArray[np.float32]] = []
    for columns, part in products(rows, num_blocks, block):
        for row, column in enumerate(columns):
            span = slice(part.indptr[row], part.indptr[row + 1])
            others, values = part.indices[span], part.data[span]
            other = others != column
            others, values = others[other], values[other]
            best = _largest(values, neighbours)
            items.append(int(rows.codes[column]))
            offsets.append(offsets[-1] + len(best))
            kept_codes.append(rows.codes[others[best]])
            kept_values.append(values[best])
    joined_codes = np.concatenate([*kept_codes, np.zeros(0, dtype=np.int64)]).astype(np.int32)
    joined_values = np.concatenate([*kept_values, np.zeros(0, dtype=np.float32)])
    return pa.table(
        {
            "item": pa.array(items, pa.int32()),
            "neighbours": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(joined_codes)),
            "similarities": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(joined_values)),
        }
    )


def _largest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Positions, ascending, of the `count` largest values; ties at the border go to the smaller position."""
    if len(values) <= count:
        return np.arange(len(values))
    border = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > border)
    at = np.flatnonzero(values == border)[: count - len(above)]
    return np.sort(np.concatenate([above, at]))


def assemble(inputs: FitInputs, found: DataFrame) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The neighbour lists as one compressed sparse row matrix [I, I]: two readings of the streamed rows."""
    sizes = np.zeros(inputs.num_items, dtype=np.int64)
    with inputs.streamed(found) as stream:
        for batch in stream():
            sizes[batch.column("item").to_numpy()] = batch.column("neighbours").value_lengths().to_numpy()
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        neighbours = np.zeros(indptr[-1], dtype=np.int32)
        similarities = np.zeros(indptr[-1], dtype=np.float32)
        for batch in stream():
            codes = batch.column("item").to_numpy()
            ends = np.cumsum(sizes[codes])
            place = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
                indptr[codes] - ends + sizes[codes], sizes[codes]
            )
            neighbours[place] = batch.column("neighbours").flatten().to_numpy()
            similarities[place] = batch.column("similarities").flatten().to_numpy()
    return torch.from_numpy(indptr), torch.from_numpy(neighbours), torch.from_numpy(similarities)
