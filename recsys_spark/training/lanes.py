"""Lanes: the fixed parts in which a dataset is read, whatever the number of processes.

A global batch is made of a batch of each lane, so that any number of processes trains on the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from recsys_spark.errors import UserError
from recsys_spark.training.staging import LocalFiles

MOST_LANES = 8
"""More lanes than this only where there are more processes: each lane is a reader of its own."""


def lane_count(row_groups: int, batch_size: int, processes: int) -> int:
    """The most lanes that divide the row groups and the batch, and that the processes can share.

    With up to eight processes of a power of two, and with row groups and a batch size that are multiples of eight,
    these are always eight. Raises UserError where there are none.
    """
    for lanes in range(max(MOST_LANES, processes), 0, -1):
        if not (row_groups % lanes or batch_size % lanes or lanes % processes):
            return lanes
    if batch_size % processes:
        raise UserError(f"batch_size {batch_size} must be a multiple of training.num_processes {processes}")
    raise UserError(
        f"datasets.row_groups {row_groups} and batch_size {batch_size} must both be multiples of "
        f"training.num_processes {processes}; change them, and build the datasets again"
    )


@dataclass(frozen=True)
class LaneReader:
    """Reads this process's lanes of `sequences`, epoch by epoch."""

    dataset: LocalFiles
    columns: Sequence[str]
    batch_size: int
    """Rows of a global batch."""
    lanes: int
    """All lanes."""
    rank: int
    processes: int
    seed: int

    @property
    def own(self) -> range:
        """The lanes of this process."""
        return range(self.rank, self.lanes, self.processes)

    def read(self, epoch: int) -> Iterator[dict[int, dict[str, Tensor]]]:
        """The batches of each own lane, step by step. Raises RuntimeError where lanes end at different steps."""
        # Imported here, so that the driver, which imports the worker, does not need petastorm.
        from recsys_spark.datasets.loader import check_dataset, read_files, shard_files

        path = self.dataset.root / "sequences"
        check_dataset(path, self.lanes)
        readers = {}
        for lane in self.own:
            files = self.dataset.local(shard_files(path, lane, self.lanes))
            seeds = (self.seed, epoch, lane)
            readers[lane] = read_files(files, self.columns, self.batch_size // self.lanes, seeds)
        while True:
            batches = {lane: next(reader, None) for lane, reader in readers.items()}
            ended = sum(batch is None for batch in batches.values())
            if ended == len(batches):
                return
            if ended:
                raise RuntimeError(f"dataset {path}: its row groups are uneven; build it again")
            yield {lane: batch for lane, batch in batches.items() if batch is not None}


def row_groups(dataset: Path) -> int:
    """Row groups of a dataset, a file each."""
    return sum(1 for _ in dataset.glob("*.parquet"))
