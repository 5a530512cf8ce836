"""The fused model: what it serves, to whom, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.normalise import Normaliser
from recsys_spark.fusion.settings import Component, FusionSettings, single
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.histories import RawHistory
from recsys_spark.recommenders.history_rules import HistoryRules

ITEMS = ["ale", "bread", "cheese", "dates"]
PURCHASE = 4


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, Path]:
    """Popularity puts dates first, then cheese, bread, ale; every item is bought again by half of its buyers."""
    rows = [{"code": n, "item_index": n + 1, "item_id": name, "title": name.title()} for n, name in enumerate(ITEMS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "vocabulary.parquet")
    made = {
        "popularity": Counts("popularity", torch.tensor([1.0, 2.0, 3.0, 4.0]), 7.0),
        "repurchase": HistoryRules("repurchase", torch.full((4,), 0.5), 30.0, (PURCHASE,)),
    }
    for name, recommender in made.items():
        recommender.save(tmp_path / name, tmp_path / "vocabulary.parquet")
    return {name: tmp_path / name for name in made}


def saved(bundles: dict[str, Path], directory: Path, names: list[str], settings: FusionSettings) -> FusedModel:
    FusedModel.save(
        directory,
        {name: bundles[name] for name in names},
        bundles["popularity"],
        {"allow": settings, "drop": settings},
        ("purchase",),
        {"purchase": 1.0, "view": 0.1},
    )
    return FusedModel.load(directory)


def test_users_without_history_get_the_popular_list_also_where_popularity_takes_no_part(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    model = saved(bundles, tmp_path / "model", ["repurchase"], single("repurchase"))
    [known, unknown] = model.recommend_histories([RawHistory(["ale"]), RawHistory([])], k=3)
    assert [row.item_id for row in unknown] == ["dates", "cheese", "bread"]
    assert [row.reason for row in unknown] == [f"popular this week (number {place})" for place in (1, 2, 3)]
    assert [row.components for row in unknown] == [{"popularity": 4.0}, {"popularity": 3.0}, {"popularity": 2.0}]
    assert [row.item_id for row in known] == ["ale"]


def test_a_recommender_that_stands_alone_lists_nothing_of_which_it_has_nothing_to_say(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    model = saved(bundles, tmp_path / "model", ["repurchase"], single("repurchase"))
    [row] = model.recommend_histories([RawHistory(["cheese", "bread"], ages_days=[9.0, 1.0])], k=4)
    assert [entry.item_id for entry in row] == ["bread", "cheese"]


def test_the_score_is_the_sum_of_its_parts_and_the_reason_is_of_the_largest(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    settings = FusionSettings(
        "weighted",
        (Component("repurchase", 0.9, Normaliser("none")), Component("popularity", 0.1, Normaliser("none"))),
    )
    model = saved(bundles, tmp_path / "model", ["repurchase", "popularity"], settings)
    history = RawHistory(["ale", "ale", "ale"], ages_days=[20.5, 10.5, 0.5])
    [row] = model.recommend_histories([history], k=2)
    assert [entry.item_id for entry in row] == ["ale", "dates"]
    decayed = sum(0.5 ** (age / 30.0) for age in (20.5, 10.5, 0.5))
    assert row[0].components["repurchase"] == pytest.approx(0.9 * 0.5 * decayed, abs=1e-5)
    assert row[0].score == pytest.approx(math.fsum(row[0].components.values()), abs=1e-6)
    assert (row[0].reason, row[1].reason) == ("you buy this about every 10 days", "popular this week (number 1)")


def test_how_many_items_are_left_out_to_explain_is_kept_with_the_model(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    both = {"allow": single("popularity"), "drop": single("popularity")}
    FusedModel.save(
        tmp_path / "model", bundles, bundles["popularity"], both, ("purchase",), {"purchase": 1.0}, explain_items=2
    )
    model = FusedModel.load(tmp_path / "model")
    assert {recommender.left_out for recommender in model.recommenders.values()} == {2}


def test_what_was_only_viewed_was_not_bought_before(bundles: dict[str, Path], tmp_path: Path) -> None:
    model = saved(bundles, tmp_path / "model", ["repurchase"], single("repurchase"))
    [row] = model.recommend_histories([RawHistory(["ale"], event_types=["view"])], k=1)
    assert "bought" not in row[0].reason


def test_lists_without_repeats_leave_out_what_was_bought(bundles: dict[str, Path], tmp_path: Path) -> None:
    model = saved(bundles, tmp_path / "model", ["popularity"], single("popularity"))
    [row] = model.recommend_histories([RawHistory(["dates", "nothing"])], k=4, repeats="drop")
    assert [entry.item_id for entry in row] == ["cheese", "bread", "ale"]


def test_blocks_of_users_do_not_change_the_lists(bundles: dict[str, Path], tmp_path: Path) -> None:
    model = saved(bundles, tmp_path / "model", ["repurchase"], single("repurchase"))
    histories = [RawHistory([ITEMS[n % 4]] * (n % 3)) for n in range(11)]
    whole = model.recommend_histories(histories, k=4)
    assert model.recommend_histories(histories, k=4, block_bytes=1) == whole
    assert [model.recommend_histories([history], k=4)[0] for history in histories] == whole


@pytest.mark.parametrize("file", ["fusion.json", "components/popularity/tensors.safetensors", "manifest.json"])
def test_a_changed_file_is_refused(bundles: dict[str, Path], tmp_path: Path, file: str) -> None:
    saved(bundles, tmp_path / "model", ["repurchase"], single("repurchase"))
    path = tmp_path / "model" / file
    content = json.loads(path.read_text()) if file == "manifest.json" else None
    if content is None:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    else:
        content["components"]["popularity"] = "0" * 64
        path.write_text(json.dumps(content))
    with pytest.raises(UserError):
        FusedModel.load(tmp_path / "model")
