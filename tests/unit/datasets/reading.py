"""A dataset's shard as training reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from recsys_spark.datasets.loader import check_dataset, read_files, shard_files


def batches(
    dataset_path: str | Path,
    columns: Sequence[str],
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
) -> Iterator[dict[str, torch.Tensor]]:
    """One epoch of a worker's shard."""
    check_dataset(dataset_path, world_size)
    files = shard_files(dataset_path, rank, world_size)
    return read_files(files, columns, batch_size, (seed, epoch, rank) if shuffle else None)
