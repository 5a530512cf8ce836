"""A planted dataset: after an item of block b always comes the next item of the same block."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.models.composition import Composition
from recsys_spark.training.spec import TrainSpec

BLOCKS, SIZE, LENGTH, ROW_GROUPS = 4, 6, 8, 4
ITEMS = BLOCKS * SIZE
ON_GPU = os.environ.get("RECSYS_SPARK_TEST_GPU") == "1"
"""Train every planted model on the GPU instead of the CPU."""


def write_rows(path: Path, columns: dict[str, np.ndarray], real: int) -> None:
    """Row groups of equal size, one a file, filler rows last."""
    path.mkdir(parents=True)
    rows = -(-real // ROW_GROUPS)
    for group in range(ROW_GROUPS):
        table = {}
        for name, values in columns.items():
            part = values[group * rows : (group + 1) * rows]
            filler = np.zeros((rows - len(part), *values.shape[1:]), values.dtype)
            part = np.concatenate([part, filler])
            table[name] = (
                pa.array(list(part), pa.list_(pa.from_numpy_dtype(part.dtype))) if part.ndim == 2 else pa.array(part)
            )
        pq.write_table(pa.table(table), path / f"part-{group:05d}.parquet", row_group_size=rows)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 sequences that go round their block, 30 valid users whose target is the next item."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("planted")
    blocks, starts = random.integers(BLOCKS, size=130), random.integers(SIZE, size=130)
    walks = (blocks[:, None] * SIZE + (starts[:, None] + np.arange(LENGTH + 1)) % SIZE + 1).astype(np.int32)
    lengths = random.integers(2, LENGTH + 1, size=130).astype(np.int32)
    items = walks[:, :LENGTH] * (np.arange(LENGTH) < lengths[:, None])
    times = np.arange(LENGTH, dtype=np.int64) * 3600 * (items > 0)
    counts = np.bincount(items[:100].ravel(), minlength=ITEMS + 1)[1:]
    codes = np.arange(ITEMS, dtype=np.int32)
    names = [f"i{code}" for code in codes]
    vocabulary = {"code": codes, "item_index": codes + 1, "item_id": names, "title": names, "count": counts}
    pq.write_table(pa.table(vocabulary), path / "vocabulary.parquet")
    real = np.ones(100, np.float32)
    sequences = {"items": items[:100], "times": times[:100], "length": lengths[:100], "row_weight": real}
    sequences |= {"event_types": (items[:100] > 0).astype(np.int32), "user_index": np.arange(1, 101, dtype=np.int32)}
    write_rows(path / "sequences", sequences, 100)
    targets = np.zeros((30, 3), np.int32)
    targets[:, 0] = walks[np.arange(100, 130), lengths[100:]]
    valid = {"items": items[100:], "length": lengths[100:], "targets": targets}
    valid |= {"times": times[100:], "event_types": (items[100:] > 0).astype(np.int32)}
    valid |= {"user_index": np.arange(101, 131, dtype=np.int32)}
    valid |= {"target_count": np.ones(30, np.int32), "row_weight": np.ones(30, np.float32)}
    write_rows(path / "valid", valid, 30)
    (path / "dataset.json").write_text(json.dumps({"num_items": ITEMS, "max_length": LENGTH, "version": "planted"}))
    return path


@pytest.fixture
def make_spec(planted: Path, tmp_path: Path) -> Callable[..., TrainSpec]:
    """A spec on the planted dataset; keywords replace its fields or its composition's."""

    def make(**changes: Any) -> TrainSpec:
        composition = Composition(
            user_encoder="gru",
            item_encoders=("id",),
            scorer="dot",
            loss="sampled_softmax",
            dim=16,
            layers=1,
            dropout=0.1,
            num_items=ITEMS,
            max_length=LENGTH,
        )
        parts = {name: changes.pop(name) for name in list(changes) if hasattr(composition, name)}
        spec = TrainSpec(
            composition=replace(composition, **parts),
            dataset=str(planted),
            dataset_version="planted",
            work=str(tmp_path / "work"),
            seed=5,
            epochs=4,
            validate=True,
            patience=100,
            batch_size=10,
            learning_rate=0.02,
            weight_decay=0.0,
            warmup_steps=5,
            grad_clip=1.0,
            negatives=12,
            negatives_power=0.75,
            threads=1,
            use_gpu=ON_GPU,
        )
        return replace(spec, **changes)

    return make
