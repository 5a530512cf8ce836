"""A study that survives its driver: an Optuna study in a SQLite file of the workspace, which the driver alone writes.

Trials are asked for in batches, trained, and told in the order in which they were asked for. What is drawn is a
function of (seed, place in the study, what was told before the batch), so a study that was killed and resumed goes
the way of one that was not.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from recsys_spark.config.tuning import Tuning
from recsys_spark.errors import UserError
from recsys_spark.tuning.referee import Earlier
from recsys_spark.tuning.space import Space

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
PLACE, RUN, ERROR, REPEATS = "place", "run_id", "error", "repeats"
"""Attributes of a trial: its place in the study, its MLflow run, why it failed, the killed trial that it repeats."""


@dataclass(frozen=True)
class Proposal:
    """A trial to be run."""

    number: int
    """Optuna's number of the trial."""
    place: int
    """Its place in the study, from 0: trials that were killed and repeated have the same."""
    values: Mapping[str, Any]
    """The settings."""

    @property
    def key(self) -> str:
        """Names the settings: where checkpoints stand."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Verdict:
    """What became of a trial."""

    STATES: ClassVar = ("complete", "pruned", "failed")

    curve: Mapping[int, float]
    """Valid NDCG@10 by epoch, as far as it counts."""
    value: float | None
    """Its valid NDCG@10; None where it was pruned or failed."""
    error: str | None = None
    """Why it failed."""

    @property
    def state(self) -> str:
        """complete, pruned or failed."""
        return "failed" if self.error is not None else "pruned" if self.value is None else "complete"

    @classmethod
    def of(cls, trial: FrozenTrial) -> Verdict:
        """What was written down of a trial."""
        value = trial.value if trial.state == TrialState.COMPLETE else None
        return cls(trial.intermediate_values, value, trial.user_attrs.get(ERROR))


class TuningStudy:
    """The trials of one study, on disk."""

    def __init__(self, file: Path, name: str, space: Space, tuning: Tuning, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=RDBStorage(f"sqlite:///{file}"), study_name=name, direction="maximize", load_if_exists=True
        )
        self._space = space
        self._tuning = tuning
        self._seed = seed
        self._open: dict[int, Trial] = {}
        self._grid = space.grid() if tuning.sampler == "grid" else None
        self.total = min(tuning.trials, len(self._grid)) if self._grid is not None else tuning.trials
        """Trials that shall be finished or pruned."""

    def recover(self) -> list[str]:
        """Give trials that a killed driver left running another chance; returns their MLflow runs."""
        waiting = {trial.user_attrs.get(REPEATS) for trial in self._trials(TrialState.WAITING)}
        runs = []
        for trial in self._trials(TrialState.RUNNING):
            complete = trial.params.keys() == self._space.ranges.keys()
            if complete and ERROR not in trial.user_attrs and trial.number not in waiting:
                self._study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})
            self._study.tell(trial.number, state=TrialState.FAIL)
            runs += [trial.user_attrs[RUN]] if RUN in trial.user_attrs else []
        return runs

    @property
    def settled(self) -> list[FrozenTrial]:
        """Trials that ended by themselves, by place."""
        ended = [trial for trial in self._trials(*FINISHED, TrialState.FAIL) if _settled(trial)]
        return sorted(ended, key=lambda trial: trial.user_attrs[PLACE])

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that were finished or pruned, by place: what `trials` counts."""
        return [trial for trial in self.settled if trial.state in FINISHED]

    @property
    def best(self) -> FrozenTrial | None:
        """The best finished trial, the first of equals."""
        complete = [trial for trial in self.finished if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: (trial.value, -trial.user_attrs[PLACE]), default=None)

    @property
    def next_exists(self) -> bool:
        """Is there a trial left to run."""
        settled = len(self.settled)
        return len(self.finished) < self.total and (self._grid is None or settled < len(self._grid))

    def next_batch(self, size: int) -> list[Proposal]:
        """The next trials, up to a multiple of `size` places; nothing where the study is done."""
        place, left = len(self.settled), self.total - len(self.finished)
        end = min(place - place % size + size, place + left)
        if self._grid is not None:
            end = min(end, len(self._grid))
        return [self._ask(at) for at in range(place, end)] if left > 0 else []

    def earlier(self, place: int, size: int) -> list[Earlier]:
        """What was finished before the batch of a place began."""
        before = place - place % size
        return [
            Earlier(trial.intermediate_values, trial.value if trial.state == TrialState.COMPLETE else None)
            for trial in self.finished
            if trial.user_attrs[PLACE] < before
        ]

    def same_settings(self, proposal: Proposal) -> FrozenTrial | None:
        """A finished trial of the same settings."""
        return next((trial for trial in self.finished if self.values(trial) == proposal.values), None)

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """The settings of a trial."""
        return self._space.values(trial.params)

    def note_run(self, proposal: Proposal, run_id: str) -> None:
        """Remember the MLflow run of a trial."""
        self._open[proposal.number].set_user_attr(RUN, run_id)

    def tell(self, proposal: Proposal, verdict: Verdict) -> None:
        """Write down what became of a trial."""
        trial = self._open.pop(proposal.number)
        for epoch in sorted(verdict.curve):
            trial.report(verdict.curve[epoch], epoch)
        if verdict.error is not None:
            trial.set_user_attr(ERROR, verdict.error[:1000])
            self._study.tell(trial, state=TrialState.FAIL)
        elif verdict.value is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, verdict.value)

    def _ask(self, place: int) -> Proposal:
        if self._grid is not None and not self._trials(TrialState.WAITING):
            self._study.enqueue_trial(self._grid[place])
        self._study.sampler = self._sampler(place)
        trial = self._study.ask(self._space.distributions)
        trial.set_user_attr(PLACE, place)
        self._open[trial.number] = trial
        return Proposal(trial.number, place, self._space.values(trial.params))

    def _sampler(self, place: int) -> BaseSampler:
        """A sampler of its own for each place: a seeded one would draw from its beginning again after a kill."""
        digest = hashlib.sha256(f"{self._seed}/{place}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        if self._tuning.sampler == "tpe":
            return TPESampler(
                seed=seed, n_startup_trials=self._tuning.startup_trials, multivariate=True, constant_liar=True
            )
        return RandomSampler(seed=seed)

    def _trials(self, *states: TrialState) -> Sequence[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)


def _settled(trial: FrozenTrial) -> bool:
    """Did it end by itself: not one that was killed and is repeated, nor one of before it had a place."""
    return PLACE in trial.user_attrs and (trial.state in FINISHED or ERROR in trial.user_attrs)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a file's lock, which ends with the process however that ends. Raises UserError where another holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another tune_model works on this study ({file}); wait for it, or stop it") from None
        yield
