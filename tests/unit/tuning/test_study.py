"""A study that was killed goes the way of one that was not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from recsys_spark.config.tuning import Tuning
from recsys_spark.errors import UserError
from recsys_spark.tuning.space import Space
from recsys_spark.tuning.study import Proposal, TuningStudy, Verdict, locked

RANGES = {
    "dim": {"choices": [8, 16, 32]},
    "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "layers": {"low": 1, "high": 3},
}
COUNTABLE = {**RANGES, "learning_rate": {"choices": [0.01, 0.1]}, "layers": {"low": 1, "high": 1}}


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where the host has such a folder: SQLite waits for the disk at each of many writes."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as path:
        yield Path(path)


class KilledError(Exception):
    """The driver died."""


def study(folder: Path, seed: int = 7, **tuning: Any) -> TuningStudy:
    settings = {"trials": 6, "startup_trials": 3, **tuning}
    ranges = COUNTABLE if settings.get("sampler") == "grid" else RANGES
    checked = Tuning.model_validate({**settings, "space": {"gru": ranges}})
    return TuningStudy(folder / "study.db", "study", Space("gru", checked.space["gru"]), checked, seed)


def judge(proposal: Proposal) -> Verdict:
    """A value that the settings have; wide ones of one layer are pruned."""
    values = proposal.values
    value = values["dim"] / 100 + values["learning_rate"] + values["layers"] / 10
    pruned = values["dim"] == 32 and values["layers"] == 1
    return Verdict({1: value / 2}, None) if pruned else Verdict({1: value / 2, 2: value}, value)


def go(at: TuningStudy, size: int, asks: int = 99, tells: int = 99) -> None:
    """Run batches, and die after so many batches were asked for and then so many trials of the last were told."""
    at.recover()
    while batch := at.next_batch(size):
        asks -= 1
        for number, proposal in enumerate(batch):
            if asks == 0 and number == tells:
                raise KilledError
            at.tell(proposal, judge(proposal))


def told(at: TuningStudy) -> list[tuple[str, dict[str, Any], float | None, dict[int, float]]]:
    return [(trial.state.name, at.values(trial), trial.value, trial.intermediate_values) for trial in at.settled]


@pytest.mark.parametrize(("sampler", "size"), [("random", 1), ("tpe", 2), ("grid", 3)])
def test_killed_and_resumed_it_tries_the_same_settings_as_undisturbed(folder: Path, sampler: str, size: int) -> None:
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    whole = study(folder / "whole", sampler=sampler)
    go(whole, size)
    assert len(whole.finished) == 6
    for asks, tells in ((2, 0), (1, size - 1)):
        with pytest.raises(KilledError):
            go(study(folder / "killed", sampler=sampler), size, asks, tells)
    resumed = study(folder / "killed", sampler=sampler)
    go(resumed, size)
    assert told(resumed) == told(whole)
    assert resumed.best is not None
    assert whole.best is not None
    assert resumed.values(resumed.best) == whole.values(whole.best)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_same_seed_draws_the_same_and_another_seed_something_else(folder: Path, sampler: str) -> None:
    tried = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (folder / name).mkdir()
        at = study(folder / name, seed, sampler=sampler, trials=4)
        go(at, 1)
        tried.append(told(at))
    assert tried[0] == tried[1] != tried[2]
    rates = [values["learning_rate"] for _, values, _, _ in tried[0]]
    assert len(set(rates)) == 4


def test_a_finished_study_is_done_and_goes_on_when_more_trials_are_asked_for(folder: Path) -> None:
    go(study(folder, trials=3), 1)
    again = study(folder, trials=3)
    assert not again.next_exists
    assert again.next_batch(2) == []
    more = study(folder, trials=5)
    go(more, 1)
    assert len(more.finished) == 5


def test_a_grid_ends_where_its_combinations_end(folder: Path) -> None:
    at = study(folder, sampler="grid", trials=100)
    go(at, 4)
    tried = [tuple(values.values()) for _, values, _, _ in told(at)]
    assert tried == [(dim, rate, 1) for dim in (8, 16, 32) for rate in (0.01, 0.1)]


def test_failed_trials_do_not_count_and_are_not_repeated(folder: Path) -> None:
    at = study(folder, trials=3)
    (first,) = at.next_batch(1)
    at.tell(first, Verdict({}, None, "out of memory"))
    go(at, 1)
    assert [state for state, *_ in told(at)] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert len({tuple(values.items()) for _, values, _, _ in told(at)}) == 4


def test_a_trial_with_settings_that_were_tried_is_found(folder: Path) -> None:
    at = study(folder, sampler="grid", trials=2)
    (first,) = at.next_batch(1)
    assert at.same_settings(first) is None
    at.tell(first, judge(first))
    same = at.same_settings(Proposal(99, 5, first.values))
    assert same is not None
    assert same.value == judge(first).value


def test_one_driver_at_a_time(folder: Path) -> None:
    file = folder / "a" / "lock"
    with locked(file), pytest.raises(UserError, match="another tune_model works on this study"), locked(file):
        pass
    with locked(file):
        pass
