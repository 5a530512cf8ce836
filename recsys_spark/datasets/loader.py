"""Reading datasets in shards: the only importer of petastorm, used by training's workers (no Spark here)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from recsys_spark.errors import UserError

with warnings.catch_warnings():
    # petastorm 0.12 still says pyarrow.filesystem on import.
    warnings.simplefilter("ignore")
    from petastorm import make_batch_reader

# It goes on to say so with each file that it reads.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")

Arrays = dict[str, np.ndarray]


def check_dataset(dataset_path: str | Path, world_size: int) -> int:
    """The rows of each row group, after checking that `world_size` workers can take equal shards.

    Raises UserError for a dataset with `_common_metadata` (petastorm would unpickle it), with fewer row groups than
    workers, with a number of them that workers cannot share equally, or with row groups of different sizes: workers
    would then take different numbers of steps and wait for each other for ever.
    """
    path = Path(dataset_path)
    if any(path.rglob("*_common_metadata")):
        raise UserError(f"dataset {path}: has a _common_metadata file, which petastorm would unpickle; build it again")
    sizes = []
    for file in sorted(path.glob("*.parquet")):
        footer = pq.read_metadata(file)
        if footer.num_row_groups != 1:
            raise UserError(f"dataset {path}: {file.name} has {footer.num_row_groups} row groups; build it again")
        sizes.append(footer.row_group(0).num_rows)
    if len(sizes) < world_size or len(sizes) % world_size:
        raise UserError(
            f"dataset {path}: {len(sizes)} row groups cannot be shared by {world_size} workers; set "
            "datasets.row_groups to a multiple of training.num_processes and build it again"
        )
    if len(set(sizes)) != 1:
        raise UserError(f"dataset {path}: its row groups have different numbers of rows; build it again")
    return sizes[0]


def shard_files(dataset_path: str | Path, rank: int = 0, world_size: int = 1) -> list[Path]:
    """The files of a shard, a row group each: always the same ones, so that a host may keep them.

    Rows were spread over row groups by hash, so a fixed shard is as good as one drawn anew each epoch.
    """
    return sorted(Path(dataset_path).glob("*.parquet"))[rank::world_size]


def read_files(
    files: Sequence[Path], columns: Sequence[str], batch_size: int, seeds: Sequence[int] | None
) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of the rows of files: column to tensor, [B] or for lists [B, L], in the stored types.

    The order follows from the seeds alone: files are visited in a drawn order and the rows of each are permuted; since
    rows were spread over files by hash when they were written, that is as good as a shuffle of all. Without seeds it is
    that of the files. The last batch may be smaller, and filler rows (row_weight 0) are among them.
    """
    random = np.random.default_rng([*seeds]) if seeds is not None else None
    order = random.permutation(len(files)) if random is not None else np.arange(len(files))
    pending: list[Arrays] = []
    waiting = 0
    with make_batch_reader(
        # petastorm does not decode the %20 of a proper URI
        [f"file://{files[place].absolute()}" for place in order],
        schema_fields=[f"^{name}$" for name in columns],
        reader_pool_type="thread",
        workers_count=1,  # several would deliver row groups in the order in which they happen to finish
        results_queue_size=2,
        shuffle_row_groups=False,
        num_epochs=1,
    ) as reader:
        for group in reader:
            rows = group._asdict()
            size = len(rows[columns[0]])
            places = random.permutation(size) if random is not None else slice(None)
            pending.append({name: rows[name][places] for name in columns})
            waiting += size
            whole = waiting - waiting % batch_size
            if whole:
                joined = _joined(pending)
                for start in range(0, whole, batch_size):
                    yield _tensors(joined, slice(start, start + batch_size))
                pending, waiting = [{name: values[whole:] for name, values in joined.items()}], waiting - whole
    if waiting:
        yield _tensors(_joined(pending), slice(None))


def _joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if len(parts) > 1 else parts[0]


def _tensors(arrays: Arrays, rows: slice) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(values[rows])) for name, values in arrays.items()}
