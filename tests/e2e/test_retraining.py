"""Night 1 trains, night 2 keeps, night 3 trains again for its triggers and starts from night 1's champion."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from recsys_spark.config import load_config
from recsys_spark.recommenders.bundle import TENSORS, VOCABULARY
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import CHALLENGER, CHAMPION, aliased
from recsys_spark.tracking.runs import Tracker
from tests.e2e.conftest import ROOT, finish, read
from tests.e2e.retraining_nights import NEW_ITEMS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Nights:
    folder: Path
    first: dict[str, Any]
    kept: dict[str, Any]
    again: dict[str, Any]
    promoted: dict[str, Any]
    last: dict[str, Any]

    def gru(self, workspace: str) -> Commit:
        """The newest fits of the network in a workspace."""
        return Workspace(str(self.folder / workspace)).require("train_models.gru")

    def alias(self, alias: str) -> str:
        config = load_config([str(self.folder / "shop.yaml")])
        model = aliased(Tracker(config, self.folder / "shop"), "recsys-fused", alias)
        assert model is not None
        return model.version


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    folder = tmp_path_factory.mktemp("nights")
    ended = finish([sys.executable, "-m", "tests.e2e.retraining_nights", str(folder)], ROOT)
    assert ended.code == 0, ended.stderr[-4000:]
    return Nights(folder, *(json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")))


def test_the_first_night_trains(nights: Nights) -> None:
    assert nights.first["retraining"]["train"]
    assert [each["name"] for each in nights.first["retraining"]["triggers"]] == ["first"]


def test_the_second_night_keeps_the_model_and_serves_the_newest_histories(nights: Nights) -> None:
    told = nights.kept["retraining"]
    assert (told["train"], told["why"]) == (False, "no trigger fired")
    assert [(each["name"], each["value"]) for each in told["triggers"]] == [("age", 1.0), ("new_items", 0.0)]
    stages = ["clean_events", "build_features", "build_datasets", "fit_features", "fuse_recommendations"]
    assert list(nights.kept["stages"]) == stages
    before, after = (read(line["outputs"]["recommendations"]) for line in (nights.first, nights.kept))
    assert set(after["model_version"].to_pylist()) == set(before["model_version"].to_pylist())
    assert str(after["generated_at"][0].as_py())[:10] == "2024-02-12"
    lists = [{(row["user_id"], row["rank"]): row["score"] for row in table.to_pylist()} for table in (before, after)]
    moved = {user for (user, rank), score in lists[1].items() if lists[0].get((user, rank)) != score}
    unmoved = {user for user, _ in lists[1]} - moved
    # Customers buy on days of their own number modulo 7, and popularity is the same for all: that day's lists moved.
    assert "C006" in moved
    assert unmoved


def test_a_night_that_is_run_again_does_nothing(nights: Nights) -> None:
    assert {stage["status"] for stage in nights.again["stages"].values()} == {"skipped"}
    assert nights.again["outputs"]["recommendations"] == nights.kept["outputs"]["recommendations"]


def test_a_model_that_waited_over_a_kept_night_is_promoted_and_serves_the_newest_histories(nights: Nights) -> None:
    assert (nights.promoted["decision"], nights.promoted["champion"]) == ("promoted", "1")
    lists = [read(line["outputs"]["recommendations"]) for line in (nights.kept, nights.promoted)]
    columns = ["user_id", "rank", "item_id", "score", "generated_at", "model_version"]
    assert (
        lists[0]
        .select(columns)
        .sort_by([("user_id", "ascending"), ("rank", "ascending")])
        .equals(lists[1].select(columns).sort_by([("user_id", "ascending"), ("rank", "ascending")]))
    )
    shop = Workspace(str(nights.folder / "before"))
    assert shop.require("fuse_recommendations").facts["served"] == "champion"
    assert shop.require("promote_model").inputs["build_datasets"] == 1  # what it was judged on


def test_the_third_night_trains_for_its_triggers_and_starts_warm(nights: Nights) -> None:
    told = nights.last["retraining"]
    assert told["train"]
    assert {each["name"]: each["fired"] for each in told["triggers"]} == {"age": True, "new_items": True}
    assert "the last training is 20 days of data old, the limit is 14" in told["why"]
    fits = nights.gru("shop").facts["fits"]
    assert {fit: facts["warm_from"] for fit, facts in fits.items()} == dict.fromkeys(fits, "recsys-fused/1")
    bundle = nights.gru("shop").path("publish")
    items = pq.read_table(bundle / VOCABULARY)["item_id"].to_pylist()
    assert set(NEW_ITEMS) <= set(items)
    assert fits["publish"]["known_items"] == len(items) - len(NEW_ITEMS)
    assert fits["publish"]["best_epoch"] == 1
    assert nights.last["decision"] == "promoted"
    assert nights.alias(CHAMPION) == nights.alias(CHALLENGER) == "2"


def test_nothing_after_its_cut_reaches_a_fit_that_is_evaluated(nights: Nights) -> None:
    # In `after` are a newer champion, of data after the cut, and other events: the fit is the same to the last bit.
    assert nights.gru("shop").facts["fits"]["publish"]["parameters_sha256"]
    before, after = nights.gru("before"), nights.gru("after")
    assert before.facts["fits"]["select"]["warm_from"] == after.facts["fits"]["select"]["warm_from"] == "recsys-fused/1"
    tensors = [load_file(commit.path("select") / TENSORS) for commit in (before, after)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    own = Workspace(str(nights.folder / "before")).require("build_datasets").facts["versions"]
    other = Workspace(str(nights.folder / "after")).require("build_datasets").facts["versions"]
    assert own["publish"] != other["publish"]  # what comes after the cut is not the same
