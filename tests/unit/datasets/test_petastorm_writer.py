from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.datasets.flat import hashed
from recsys_spark.datasets.petastorm_writer import Rows, gather, ints, list_of, write_loose

SCHEMA = pa.schema([ints("user_index"), ints("length"), list_of("items"), ints("row_weight", pa.float32())])
GROUPS = 3


def rows_of(numbers: np.ndarray) -> Rows:
    """Row n holds the items 10 n, 10 n + 1, ..., of which there are n % 4; even rows share one hash."""
    length = numbers % 4
    first = np.cumsum(length) - length
    items = np.concatenate([[0], *[10 * number + np.arange(number % 4) for number in numbers]])
    return Rows(
        key=np.where(numbers % 2, hashed(1, numbers), 5),
        tie=numbers,
        columns={"user_index": (numbers // 2).astype(np.int32), "length": length.astype(np.int32)},
        first=first + 1,
        events={"items": items.astype(np.int32)},
    )


def written(folder: Path, parts: list[np.ndarray]) -> list[bytes]:
    """The bytes of each row group's file."""
    (folder / "dataset").mkdir(parents=True)
    files = [folder / f"{number}.arrow" for number in range(len(parts))]
    sizes = sum(write_loose(rows_of(part), GROUPS, file) for part, file in zip(parts, files, strict=True))
    for group in range(GROUPS):
        gather(files, group, SCHEMA, {"items": 3}, int(np.max(sizes)), folder / "dataset")
    return [path.read_bytes() for path in sorted((folder / "dataset").iterdir())]


def test_rows_come_out_padded_with_filler_and_each_once(tmp_path: Path) -> None:
    numbers = np.arange(40)
    written(tmp_path, [numbers])
    rows = pq.read_table(tmp_path / "dataset").to_pylist()
    real = [row for row in rows if row["row_weight"] == 1]
    expected = [
        {"user_index": n // 2, "length": n % 4, "items": [10 * n + k if k < n % 4 else 0 for k in range(3)]}
        | {"row_weight": 1}
        for n in numbers.tolist()
    ]
    assert sorted(map(repr, real)) == sorted(map(repr, [{**row, "row_weight": 1.0} for row in expected]))
    filler = [row for row in rows if row["row_weight"] == 0]
    assert filler == [{"user_index": 0, "length": 0, "items": [0, 0, 0], "row_weight": 0.0}] * len(filler)
    footers = [pq.read_metadata(path) for path in sorted((tmp_path / "dataset").iterdir())]
    assert len({footer.num_rows for footer in footers}) == 1
    assert {footer.num_row_groups for footer in footers} == {1}


def test_bytes_are_the_same_however_rows_are_parted_and_ordered(tmp_path: Path) -> None:
    numbers = np.arange(40)
    whole = written(tmp_path / "whole", [numbers])
    parted = written(tmp_path / "parted", [numbers[25:][::-1], numbers[:0], numbers[:25]])
    assert parted == whole


def test_a_python_worker_that_loads_the_passes_loads_no_configuration_and_no_torch() -> None:
    code = (
        "import recsys_spark.datasets.passes, recsys_spark.datasets.gathering, sys; "
        "sys.exit(' '.join({'pydantic', 'torch', 'petastorm', 'mlflow'} & sys.modules.keys()) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
