from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.datasets.loader import check_dataset
from recsys_spark.datasets.petastorm_writer import ints, list_of, lists
from recsys_spark.errors import UserError
from tests.unit.datasets.reading import batches

SCHEMA = pa.schema([ints("row"), list_of("items"), ints("row_weight", pa.float32())])


def dataset(folder: Path, sizes: list[int]) -> Path:
    """Row r holds items [r, r + 1, r + 2]."""
    folder.mkdir()
    start = 0
    for number, size in enumerate(sizes):
        rows = np.arange(start, start + size)
        columns = [pa.array(rows, pa.int32()), lists(rows[:, None] + np.arange(3)), pa.array(np.ones(size, np.float32))]
        table = pa.Table.from_arrays(columns, names=SCHEMA.names).cast(SCHEMA)
        pq.write_table(table, folder / f"part-{number:05d}.parquet", row_group_size=size)
        start += size
    return folder


def rows_of(path: Path, **options: int | bool) -> list[int]:
    return [row for batch in batches(path, ["row"], 4, **options) for row in batch["row"].tolist()]


@pytest.mark.parametrize(("world_size", "steps"), [(1, 14), (2, 7), (4, 4)])
@pytest.mark.parametrize("epoch", [0, 1])
def test_shards_together_read_each_row_once_in_equal_steps(
    tmp_path: Path, world_size: int, steps: int, epoch: int
) -> None:
    path = dataset(tmp_path / "d", [7] * 8)
    shards = [
        list(batches(path, ["row", "items"], 4, rank=rank, world_size=world_size, seed=3, epoch=epoch))
        for rank in range(world_size)
    ]
    assert sorted(row for shard in shards for batch in shard for row in batch["row"].tolist()) == list(range(56))
    assert {len(shard) for shard in shards} == {steps}
    assert len({tuple(len(batch["row"]) for batch in shard) for shard in shards}) == 1
    for shard in shards:
        for batch in shard:
            assert (batch["items"] == batch["row"][:, None] + np.arange(3)).all()


def test_order_is_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    path = dataset(tmp_path / "a folder with 100% blanks", [9] * 4)
    once = rows_of(path, seed=1, epoch=0)
    assert once == rows_of(path, seed=1, epoch=0)
    assert once != rows_of(path, seed=1, epoch=1)
    assert once != rows_of(path, seed=2, epoch=0)
    assert rows_of(path, shuffle=False) == list(range(36))


def test_a_dataset_that_workers_cannot_share_is_refused(tmp_path: Path) -> None:
    path = dataset(tmp_path / "d", [2] * 3)
    assert check_dataset(path, 3) == 2
    with pytest.raises(UserError, match="3 row groups cannot be shared by 2 workers"):
        next(batches(path, ["row"], 2, world_size=2))
    with pytest.raises(UserError, match="3 row groups cannot be shared by 6 workers"):
        check_dataset(path, 6)
    with pytest.raises(UserError, match="different numbers of rows"):
        check_dataset(dataset(tmp_path / "uneven", [2, 3]), 1)
    (path / "_common_metadata").write_bytes(b"")
    with pytest.raises(UserError, match="_common_metadata"):
        check_dataset(path, 1)
