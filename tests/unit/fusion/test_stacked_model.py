"""A stacked fusion as a model on disk: what it serves, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import FusionSettings, Stack, average
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.histories import RawHistory
from recsys_spark.recommenders.history_rules import HistoryRules
from tests.stacking import PURCHASE, plain_columns, tiny_trees

ITEMS = ("ale", "bread", "cheese", "dates")
NAMES = ("popularity", "repurchase")
TREES = "stacked-allow.trees.txt"


@pytest.fixture(scope="module")
def setting() -> FusionSettings:
    """Trees that rank by how long ago the user bought the item: the longer the better."""
    trees = tiny_trees(NAMES, "own.idle")
    return replace(average(NAMES), method="stacked", stack=Stack(3, TREES, trees))


@pytest.fixture
def directory(tmp_path: Path, setting: FusionSettings) -> Path:
    rows = [{"code": n, "item_index": n + 1, "item_id": name, "title": name.title()} for n, name in enumerate(ITEMS)]
    vocabulary = tmp_path / "vocabulary.parquet"
    pq.write_table(pa.Table.from_pylist(rows), vocabulary)
    Counts("popularity", torch.tensor([1.0, 2.0, 3.0, 4.0]), 7.0).save(tmp_path / "popularity", vocabulary)
    rules = HistoryRules("repurchase", torch.full((4,), 0.5), 30.0, (PURCHASE,))
    rules.save(tmp_path / "repurchase", vocabulary)
    FusedModel.save(
        tmp_path / "model",
        {name: tmp_path / name for name in NAMES},
        tmp_path / "popularity",
        {"allow": setting, "drop": average(NAMES)},
        ("purchase",),
        {"purchase": 1.0},
        columns=plain_columns(4),
    )
    return tmp_path / "model"


def test_the_lists_are_those_of_the_trees_and_parts_add_up(directory: Path) -> None:
    model = FusedModel.load(directory)
    [row] = model.recommend_histories([RawHistory(["ale", "bread"], ages_days=[40.0, 0.5])], k=4)
    assert row[0].item_id == "ale"
    for entry in row:
        assert sum(entry.components.values()) == pytest.approx(entry.score, abs=1e-5)
        assert set(entry.components) == {*NAMES, "context"}
    assert max(row[0].components, key=lambda name: row[0].components[name]) == "repurchase"


def test_each_mode_has_its_own_fusion(directory: Path) -> None:
    [row] = FusedModel.load(directory).recommend_histories([RawHistory(["ale"])], k=4, repeats="drop")
    assert [entry.item_id for entry in row] == ["dates", "cheese", "bread"]
    assert "context" not in row[0].components


def test_users_without_history_are_ranked_among_what_is_popular(directory: Path) -> None:
    [row] = FusedModel.load(directory).recommend_histories([RawHistory([])], k=2)
    assert len(row) == 2
    assert {entry.item_id for entry in row} <= {"dates", "cheese", "bread"}


def test_blocks_of_users_do_not_change_the_lists(directory: Path) -> None:
    model = FusedModel.load(directory)
    histories = [RawHistory([ITEMS[n % 4]] * (n % 3), ages_days=[float(n)] * (n % 3)) for n in range(11)]
    whole = model.recommend_histories(histories, k=4)
    assert model.recommend_histories(histories, k=4, block_bytes=1) == whole


def test_blocks_are_smaller_where_candidates_take_memory(directory: Path, setting: FusionSettings) -> None:
    model = FusedModel.load(directory)
    assert model.users_in_block(1 << 20) < (1 << 20) // (4 * 4 * 5)
    assert model.users_in_block(1 << 20, [setting]) < model.users_in_block(1 << 20)


@pytest.mark.parametrize("file", [TREES, "item_columns.safetensors"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_trees_and_columns_that_are_not_those_of_the_manifest_are_refused(directory: Path, file: str, how: str) -> None:
    path = directory / file
    if how == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    else:
        path.unlink()
    with pytest.raises(UserError, match=file.replace(".", r"\.")):
        FusedModel.load(directory)
