"""Which trainings are stopped early: Optuna's pruners, asked in a way that does not depend on who was faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import Trial, TrialState

from recsys_spark.config.tuning import Tuning

VALID_K, NDCG = 10, "valid_ndcg_at_10"
Curve = Mapping[int, float]
"""Valid NDCG@10 by epoch."""


@dataclass(frozen=True)
class Earlier:
    """A trial that was finished before."""

    curve: Curve
    value: float | None
    """Its best valid NDCG@10; None where it was pruned."""


class Referee:
    """Stops a training by the curves of the trials that were finished before its batch of trials began.

    Trials that are trained at the same time do not judge each other: how far each is would be a matter of luck. So the
    pruner is asked in a study in memory that holds the earlier trials and this one alone.
    """

    def __init__(self, tuning: Tuning, earlier: Sequence[Earlier]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._pruner = _pruner(tuning)
        self._earlier = earlier

    def stop_epoch(self, curve: Curve) -> int | None:
        """The first epoch after which the pruner stops a training with this curve, or None."""
        if isinstance(self._pruner, NopPruner):
            return None
        study = optuna.create_study(direction="maximize", pruner=self._pruner)
        for finished in self._earlier:
            trial = study.ask()
            _stops(trial, finished.curve)  # successive halving notes how far each trial came
            if finished.value is None:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, finished.value)
        return next(iter(_stops(study.ask(), curve)), None)


def _stops(trial: Trial, curve: Curve) -> list[int]:
    """The epochs after which the pruner would stop the trial, were it told the curve epoch by epoch."""
    stops = []
    for epoch in sorted(curve):
        trial.report(curve[epoch], epoch)
        if trial.should_prune():
            stops.append(epoch)
    return stops


def _pruner(tuning: Tuning) -> BasePruner:
    if tuning.pruner == "median":
        return MedianPruner(n_startup_trials=tuning.startup_trials, n_warmup_steps=tuning.warmup_epochs)
    if tuning.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=tuning.warmup_epochs, reduction_factor=tuning.halving_factor)
    return NopPruner()
