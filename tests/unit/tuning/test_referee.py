"""Trainings are stopped by the curves of trials that were finished before."""

from __future__ import annotations

import pytest

from recsys_spark.config.tuning import Tuning
from recsys_spark.tuning.referee import Earlier, Referee

GOOD, BETTER, BAD = {1: 0.3, 2: 0.4, 3: 0.5}, {1: 0.4, 2: 0.5, 3: 0.6}, {1: 0.3, 2: 0.31, 3: 0.32}


def finished(*curves: dict[int, float]) -> list[Earlier]:
    return [Earlier(curve, max(curve.values())) for curve in curves]


def referee(*curves: dict[int, float], **tuning: object) -> Referee:
    return Referee(Tuning.model_validate({"startup_trials": 2, **tuning}), finished(*curves))


def test_the_median_stops_what_is_worse_than_the_median_of_finished_trials_at_that_epoch() -> None:
    judge = referee(GOOD, BETTER)
    assert judge.stop_epoch({1: 0.36}) is None  # the median is 0.35
    assert judge.stop_epoch({1: 0.36, 2: 0.37}) == 2
    assert judge.stop_epoch(BAD) == 1


def test_the_median_judges_only_after_the_startup_trials_and_the_warm_up() -> None:
    assert referee(BETTER).stop_epoch(BAD) is None
    assert referee(GOOD, BETTER, warmup_epochs=3).stop_epoch(BAD) == 3
    assert referee(GOOD, BETTER, pruner="none").stop_epoch(BAD) is None


def test_pruned_trials_do_not_count_in_the_median() -> None:
    tuning = Tuning(startup_trials=2)
    assert Referee(tuning, [*finished(GOOD), Earlier({1: 0.9}, None)]).stop_epoch(BAD) is None


def test_successive_halving_lets_one_in_three_go_on_at_epochs_one_and_three() -> None:
    curves = [{1: value, 2: value, 3: value} for value in (0.1, 0.2, 0.3, 0.4, 0.5)]
    judge = referee(*curves, pruner="halving")
    assert judge.stop_epoch({1: 0.35}) == 1  # the best two of six go on
    assert judge.stop_epoch({1: 0.45, 2: 0.0}) is None  # between the levels nobody is judged
    assert judge.stop_epoch({1: 0.45, 2: 0.45, 3: 0.35}) == 3
    assert judge.stop_epoch({1: 0.6, 2: 0.6, 3: 0.6}) is None


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_verdict_is_the_same_however_often_it_is_asked_for(pruner: str) -> None:
    judge = referee(GOOD, BETTER, pruner=pruner)
    assert {judge.stop_epoch(BAD) for _ in range(3)} == {1}
