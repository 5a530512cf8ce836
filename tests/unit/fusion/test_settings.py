"""Settings of every fusion are plain JSON, and trees a file beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.fusion.normalise import Normaliser
from recsys_spark.fusion.settings import (
    Cascade,
    Component,
    FusionSettings,
    Segments,
    Stack,
    average,
    read_settings,
    segments_of,
    single,
    write_settings,
)
from recsys_spark.fusion.trees import Trees

OWN = (Component("gru", 0.7, Normaliser("softmax", 3.0)), Component("ease", 0.3, Normaliser("rank")))
EVERY = (
    average(["gru", "ease"]),
    single("ease"),
    FusionSettings("weighted", OWN, segments=Segments(5, 50, {"heavy": OWN[1:], "new": OWN})),
    FusionSettings("cascade", OWN, cascade=Cascade(("ease", "als"), 300)),
    replace(average(["gru"]), method="stacked", stack=Stack(100, "stacked-allow.trees.txt", Trees("tree\n"))),
)


@pytest.mark.parametrize("setting", EVERY, ids=lambda setting: setting.method)
def test_what_is_written_is_read_back(setting: FusionSettings, tmp_path: Path) -> None:
    write_settings(tmp_path, {"allow": setting, "drop": single("ease")})
    assert read_settings(tmp_path) == {"allow": setting, "drop": single("ease")}
    assert "tree\n" not in json.dumps(setting.to_json())


def test_missing_trees_are_an_error_of_one_line(tmp_path: Path) -> None:
    write_settings(tmp_path, {"allow": EVERY[4]})
    (tmp_path / "stacked-allow.trees.txt").unlink()
    with pytest.raises(UserError, match=r"stacked-allow\.trees\.txt is missing"):
        read_settings(tmp_path)


def test_a_fusion_names_everybody_it_asks() -> None:
    assert EVERY[3].names == ("gru", "ease", "als")
    assert EVERY[2].names == ("gru", "ease")


def test_users_with_fewer_events_than_light_are_new_and_from_heavy_on_heavy() -> None:
    assert segments_of(torch.tensor([0, 4, 5, 49, 50, 900]), 5, 50).tolist() == [0, 0, 1, 1, 2, 2]
