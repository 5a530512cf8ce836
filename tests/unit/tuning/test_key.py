"""Which changes begin another study."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from recsys_spark.tuning import key
from recsys_spark.tuning.space import space_of
from tests.unit.tuning.test_space import config

SPACE = {"gru": {"dim": {"choices": [8]}}, "ease": {"l2": {"choices": [1]}}}


def study(name: str, training: dict[str, Any] | None = None, **tuning: Any) -> str:
    given = config(SPACE, **tuning)
    given = given.model_copy(update={"training": given.training.model_copy(update=training or {})})
    datasets = SimpleNamespace(facts={"versions": {"select": "1"}})
    context: Any = SimpleNamespace(config=given, inputs={"build_datasets": datasets})
    return key.study_key(context, space_of(given, name))


@pytest.mark.parametrize("setting", [{"precision": "bf16"}, {"sync": "local"}, {"valid_users": 7}])
def test_what_models_are_trained_and_judged_by_is_in_the_name_of_a_study(setting: dict[str, Any]) -> None:
    assert study("gru", setting) != study("gru")


@pytest.mark.parametrize(
    "setting", [{"local_steps": 3}, {"outer_momentum": 0.1}, {"outer_learning_rate": 0.5}, {"num_processes": 2}]
)
def test_what_only_local_steps_depend_on_counts_only_there(setting: dict[str, Any]) -> None:
    assert study("gru", {"sync": "local", **setting}) != study("gru", {"sync": "local"})
    assert study("gru", setting) == study("gru")


def test_how_neural_ones_are_trained_is_nothing_to_those_that_spark_fits() -> None:
    assert study("ease", {"precision": "bf16", "sync": "local"}) == study("ease")


def test_a_study_goes_on_with_more_trials_and_begins_anew_with_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = study("gru")
    assert study("gru", trials=99, parallel=3) == before
    monkeypatch.setattr(key, "code_version", lambda: "another")
    assert study("gru") != before
