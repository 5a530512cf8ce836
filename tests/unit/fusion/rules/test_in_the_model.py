"""Rules as part of a fused model: stored, hashed, applied and explained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.redress import has_rules, redress, vocabulary_of
from recsys_spark.fusion.rules.compiled import ListRules
from recsys_spark.fusion.settings import FusionSettings, average, single
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.histories import RawHistory
from recsys_spark.recommenders.history_rules import HistoryRules
from tests.unit.fusion.rules.shelf import ITEMS, PURCHASE, VOCABULARY, compiled


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, Path]:
    """Popularity likes item 0 best and 11 least; every item is bought again by half of its buyers."""
    rows = {
        "code": range(ITEMS),
        "item_index": range(1, ITEMS + 1),
        "item_id": [VOCABULARY.item_id(code) for code in range(ITEMS)],
        "title": [VOCABULARY.title(code) for code in range(ITEMS)],
    }
    pq.write_table(pa.table({name: list(values) for name, values in rows.items()}), tmp_path / "vocabulary.parquet")
    made = {
        "popularity": Counts("popularity", torch.arange(ITEMS, 0, -1).float(), 7.0),
        "repurchase": HistoryRules("repurchase", torch.full((ITEMS,), 0.5), 30.0, (PURCHASE,)),
    }
    for name, recommender in made.items():
        recommender.save(tmp_path / name, tmp_path / "vocabulary.parquet")
    return {name: tmp_path / name for name in made}


def saved(bundles: dict[str, Path], directory: Path, settings: FusionSettings, rules: ListRules | None) -> FusedModel:
    FusedModel.save(
        directory,
        bundles,
        bundles["popularity"],
        {"allow": settings, "drop": settings},
        ("purchase",),
        {"purchase": 1.0},
        "allow",
        rules,
    )
    return FusedModel.load(directory)


EVERYTHING: dict[str, Any] = {
    "out": ("i2",),
    "new": (8, 9, 10),
    "boosts": {"b": {"categories": ["cheese"], "addend": 0.5, "from": "2023-11-01"}},
    "pins": {"p": {"item": "i11", "position": 2, "segment": "known"}},
    "segments": {"known": {"min_events": 1, "never_categories": ["WINE"]}},
    "caps": {"c": {"at_most": 2}},
    "new_items": {"min_share": 0.2},
    "exploration": {"share": 0.2},
    "interval": {"share": 0.5},
}


def test_rules_come_back_from_disk_as_they_were(bundles: dict[str, Path], tmp_path: Path) -> None:
    rules = compiled(**EVERYTHING, vectors=torch.ones(ITEMS, 2), diversity={"weight": 0.1})
    model = saved(bundles, tmp_path / "model", single("popularity"), rules)
    assert model.rules is not None
    assert repr(model.rules) == repr(rules)  # every field, tensors printed whole at this size
    assert torch.equal(model.rules.vectors_ID, rules.vectors_ID)


def test_a_model_without_rules_has_no_file_of_them_and_the_same_lists_as_ever(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    model = saved(bundles, tmp_path / "model", average(["popularity", "repurchase"]), None)
    assert not has_rules(tmp_path / "model")
    [row] = model.recommend_histories([RawHistory(["i5"])], k=3)
    assert [(entry.item_id, sorted(entry.components)) for entry in row] == [
        ("i5", ["popularity", "repurchase"]),
        ("i0", ["popularity", "repurchase"]),
        ("i1", ["popularity", "repurchase"]),
    ]


def test_boosted_scores_are_the_sum_of_their_parts_and_the_part_of_the_rules(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    settings = average(["popularity", "repurchase"])
    plain = saved(bundles, tmp_path / "plain", settings, None)
    rules = compiled(boosts={"b": {"items": ["i4"], "addend": 5.0}})
    model = saved(bundles, tmp_path / "model", settings, rules)
    [before] = plain.recommend_histories([RawHistory(["i5"])], k=12)
    [after] = model.recommend_histories([RawHistory(["i5"])], k=12)
    scores = {entry.item_id: entry.score for entry in before}
    assert after[0].item_id == "i4"
    assert after[0].components["rules"] == pytest.approx(5.0, abs=1e-5)
    for entry in after:
        assert entry.score == pytest.approx(math.fsum(entry.components.values()), abs=1e-5)
        assert entry.score == pytest.approx(scores[entry.item_id] + (5.0 if entry.item_id == "i4" else 0.0), abs=1e-5)
        assert ("rules" in entry.components) == (entry.item_id == "i4")


def test_pinned_and_drawn_items_say_that_the_shop_put_them_there(bundles: dict[str, Path], tmp_path: Path) -> None:
    rules = compiled(new=(8, 9), pins={"p": {"item": "i7", "position": 1}}, exploration={"share": 0.4})
    model = saved(bundles, tmp_path / "model", single("popularity"), rules)
    [row] = model.recommend_histories([RawHistory([], user_index=3)], k=5)
    reasons = {entry.item_id: entry.reason for entry in row}
    assert reasons.pop("i7") == "picked by the shop"
    assert {reasons.pop("i8"), reasons.pop("i9")} == {"new in the shop"}
    assert all(reason.startswith("popular this week") for reason in reasons.values())


def test_a_list_that_rules_emptied_is_popularitys_and_its_rows_say_so(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Repurchase alone lists what was bought; all of it was bought too lately."""
    rules = compiled(interval={"share": 1.0}, intervals=np.full(ITEMS, 30, dtype=np.float32), out=("i0",))
    model = saved(bundles, tmp_path / "model", single("repurchase"), rules)
    [lately, long_ago] = model.recommend_histories(
        [RawHistory(["i5"], ages_days=[2.0]), RawHistory(["i5"], ages_days=[40.0])], k=2
    )
    assert [entry.item_id for entry in lately] == ["i1", "i2"]
    assert [entry.components for entry in lately] == [{"popularity": 11.0}, {"popularity": 10.0}]
    for entry in lately:
        assert entry.reason.startswith("popular this week")
        assert entry.reason.endswith(", since your own list was left empty by the shop's rules")
    assert [(entry.item_id, entry.reason) for entry in long_ago] == [("i5", "you bought this before")]


def test_blocks_of_users_do_not_change_ruled_lists(bundles: dict[str, Path], tmp_path: Path) -> None:
    model = saved(bundles, tmp_path / "model", average(["popularity", "repurchase"]), compiled(**EVERYTHING))
    histories = [RawHistory([f"i{n % ITEMS}"] * (n % 3), user_index=n) for n in range(13)]
    whole = model.recommend_histories(histories, k=5)
    alone = model.recommend_histories(histories, k=5, block_bytes=1)
    assert [[(entry.item_id, entry.reason) for entry in row] for row in alone] == [
        [(entry.item_id, entry.reason) for entry in row] for row in whole
    ]
    assert all(entry.item_id != "i2" for row in whole for entry in row)


@pytest.mark.parametrize("file", ["rules.json", "rules.safetensors"])
def test_changed_or_missing_rules_are_refused(bundles: dict[str, Path], tmp_path: Path, file: str) -> None:
    saved(bundles, tmp_path / "model", single("popularity"), compiled(out=("i2",)))
    path = tmp_path / "model" / file
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(UserError, match=file):
        FusedModel.load(tmp_path / "model")
    path.unlink()
    with pytest.raises(UserError, match=file):
        FusedModel.load(tmp_path / "model")


def test_a_stored_model_is_put_under_other_rules_and_its_own_files_stay_as_they_are(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    saved(bundles, tmp_path / "model", single("popularity"), compiled(out=("i0",)))
    manifest = (tmp_path / "model" / "manifest.json").read_bytes()
    redress(tmp_path / "model", tmp_path / "today", compiled(out=("i1",)))
    redress(tmp_path / "model", tmp_path / "bare", None)
    firsts = {
        name: FusedModel.load(tmp_path / name).recommend_histories([RawHistory([])], k=2)[0]
        for name in ("model", "today", "bare")
    }
    assert {name: [entry.item_id for entry in row] for name, row in firsts.items()} == {
        "model": ["i1", "i2"],
        "today": ["i0", "i2"],
        "bare": ["i0", "i1"],
    }
    assert (tmp_path / "model" / "manifest.json").read_bytes() == manifest
    assert not has_rules(tmp_path / "bare")
    assert vocabulary_of(tmp_path / "model").size == ITEMS


def test_vectors_of_a_recommender_that_the_model_lacks_are_one_line(bundles: dict[str, Path], tmp_path: Path) -> None:
    rules = compiled(diversity={"weight": 0.5, "vectors": "als"})
    with pytest.raises(UserError, match="has no als"):
        saved(bundles, tmp_path / "model", single("popularity"), rules)


def test_rules_on_disk_are_plain(bundles: dict[str, Path], tmp_path: Path) -> None:
    saved(bundles, tmp_path / "model", single("popularity"), compiled(**EVERYTHING))
    content = json.loads((tmp_path / "model" / "rules.json").read_text())
    assert content["boosts"][0]["window"] == {"first": 1698796800, "end": None}  # 2023-11-01 00:00 UTC
    assert content["pins"][0]["position"] == 2
