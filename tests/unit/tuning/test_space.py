"""A space is checked against the recommender's own settings before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from recsys_spark.config import Config
from recsys_spark.config.tuning import Tuning
from recsys_spark.errors import UserError
from recsys_spark.tuning.space import space_of, with_settings

ROOT = Path(__file__).resolve().parents[3]
SOURCE = {
    "format": "csv",
    "path": "nowhere/*.csv",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
    "event_type": "purchase",
}


def config(space: dict[str, Any], **tuning: Any) -> Config:
    return Config.model_validate({"source": SOURCE, "tuning": {"space": space, **tuning}})


@pytest.mark.parametrize(
    ("name", "setting", "range_", "message"),
    [
        ("magic", "dim", {"choices": [1]}, "space.magic: no such recommender; known are popularity"),
        ("gru", "dmi", {"choices": [1]}, "space.gru.dmi: no such setting; known are "),
        ("gru", "dim", {"low": 0, "high": 8}, "space.gru.dim: 0 is not possible (Input should be greater than 0)"),
        ("gru", "dim", {"low": 8, "high": 9.5}, "space.gru.dim: 9.5 is not possible (Input should be a valid integer"),
        (
            "gru",
            "dim",
            {"low": 8, "high": 16, "step": 0.5},
            "space.gru.dim: step must be a whole number, as the setting",
        ),
        ("gru", "scorer", {"choices": ["dot", "dto"]}, "space.gru.scorer: 'dto' is not possible"),
        ("gru", "scorer", {"low": 1, "high": 2}, "space.gru.scorer: is not a number; give choices"),
        ("gru", "dropout", {"low": 0, "high": 1}, "space.gru.dropout: 1 is not possible (Input should be less than 1)"),
        (
            "gru",
            "item_encoder",
            {"choices": [["id", "id"]]},
            "space.gru.item_encoder: ['id', 'id'] is not possible (nam",
        ),
        ("ease", "l2", {"low": 9, "high": 2}, "low (9) is above high (2)"),
        ("ease", "l2", {"low": 0, "high": 2, "log": True}, "log needs a low above 0, not 0"),
        ("ease", "l2", {"low": 1, "high": 2, "log": True, "step": 1}, "give log or step, not both"),
        ("ease", "l2", {"low": 1}, "give low and high, or choices"),
        ("ease", "l2", {"choices": [1], "low": 1}, "give choices alone, or low and high"),
        ("ease", "l2", {"choices": []}, "at least 1 item"),
        ("ease", "l2", {"choices": [2, 3, 2]}, "choices must differ from each other"),
        ("ease", "l2", {"chioces": [2]}, "Extra inputs are not permitted"),
        ("ease", "l2", {"low": 1, "high": float("inf")}, "inf is not a finite number"),
        ("ease", "l2", {"low": float("nan"), "high": 2}, "nan is not a finite number"),
        ("ease", "l2", {"low": 1, "high": 2, "step": float("nan")}, "nan is not a finite number"),
        ("gru", "dim", {"low": 8, "high": float("inf")}, "inf is not a finite number"),
        ("repurchase", "half_lives_days", {"choices": [[30.0, float("nan")]]}, "[30.0, nan] is not a finite number"),
    ],
)
def test_what_a_setting_cannot_be_is_refused_with_its_name(
    name: str, setting: str, range_: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Tuning.model_validate({"space": {name: {setting: range_}}})
    assert message in str(refused.value)
    assert refused.value.error_count() == 1


def test_the_step_of_a_whole_setting_need_not_be_a_value_of_it() -> None:
    step = {"low": 0, "high": 10, "step": 5.0}
    space = space_of(config({"content_knn": {"keywords": step}}), "content_knn")
    assert [space.values(point)["keywords"] for point in space.grid()] == [0, 5, 10]
    far = {"low": 0, "high": 20, "step": 30}  # keywords are 20 at most
    assert [*space_of(config({"content_knn": {"keywords": far}}), "content_knn").grid()] == [{"keywords": 0}]


def test_a_grid_needs_values_that_can_be_counted() -> None:
    with pytest.raises(ValidationError, match=r"space.ease.l2: a grid needs choices, or a step"):
        Tuning.model_validate({"sampler": "grid", "space": {"ease": {"l2": {"low": 1, "high": 2}}}})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("magic", "--model magic: no such recommender; known are popularity,"),
        ("gru", "tuning.space.gru: there is nothing to search; give ranges, such as "),
        ("mfn", r"tuning.space.mfn: scorer neumf, loss full_softmax is not possible \(recommenders.mfn: scorer neumf"),
    ],
)
def test_a_model_without_a_space_and_impossible_combinations_are_refused(name: str, message: str) -> None:
    space = {
        "mfn": {"scorer": {"choices": ["dot", "neumf"]}, "loss": {"choices": ["bce", "full_softmax"]}},
    }
    with pytest.raises(UserError, match=f"^{message}") as refused:
        space_of(config(space), name)
    assert "\n" not in str(refused.value)


def test_a_grid_goes_through_every_combination_in_order() -> None:
    space = space_of(
        config(
            {"item_knn": {"neighbours": {"low": 10, "high": 30, "step": 10}, "b": {"low": 0, "high": 0.3, "step": 0.1}}}
        ),
        "item_knn",
    )
    grid = [space.values(point) for point in space.grid()]
    assert grid == [{"neighbours": n, "b": b} for n in (10, 20, 30) for b in (0.0, 0.1, 0.2, 0.3)]


def test_choices_may_be_lists_and_come_back_as_they_were_given() -> None:
    given = config({"repurchase": {"half_lives_days": {"choices": [[30.0], [60.0, 90.0]]}}}, sampler="grid")
    space = space_of(given, "repurchase")
    second = space.values(space.grid()[1])
    assert second == {"half_lives_days": [60.0, 90.0]}
    assert with_settings(given, "repurchase", second).recommenders.repurchase.half_lives_days == (60.0, 90.0)


def test_settings_replace_those_of_the_recommender_alone() -> None:
    before = config({"gru": {"dim": {"choices": [8]}}})
    after = with_settings(before, "gru", {"dim": 8})
    assert after.recommenders.gru == before.recommenders.gru.model_copy(update={"dim": 8})
    assert after.model_copy(update={"recommenders": before.recommenders}) == before


def test_the_spaces_that_come_along_are_possible() -> None:
    content = yaml.safe_load((ROOT / "conf" / "tuning.yaml").read_text())
    given = config(content["tuning"]["space"])
    for name in given.tuning.space:
        assert space_of(given, name).distributions
