"""The three fits, and what each may see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from recsys_spark.config import Config
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.scoring.blocks import Moment

FitName = Literal["select", "test", "publish"]
TRAIN, VALID, TEST = 0, 1, 2
"""Folds."""
HISTORY_FOLDS: Mapping[FitName, tuple[int, ...]] = {
    "select": (TRAIN,),
    "test": (TRAIN, VALID),
    "publish": (TRAIN, VALID, TEST),
}
"""Folds of the history at the moment when the fit recommends; with `refit` also those of the test fit's parameters."""


def fits_of(config: Config) -> tuple[FitName, ...]:
    """The fits that have parameters of their own; without `refit` the test fit takes those of `select`."""
    return ("select", "test", "publish") if config.evaluation.refit else ("select", "publish")


def parameters_of(fit: FitName, config: Config) -> FitName:
    """The fit whose bundles a fit uses."""
    return fit if fit in fits_of(config) else "select"


def moment_of(fit: FitName, config: Config, cut_times: Mapping[str, Any]) -> Moment:
    """What of each history is known when the fit recommends, and when that is."""
    timeless = config.split.strategy == "leave_one_out" and fit != "publish"
    return Moment(HISTORY_FOLDS[fit], None if timeless else int(cut_times[fit]))


def bundles_of(fit: FitName, context: StageContext) -> dict[str, Path]:
    """Each recommender's bundle for a fit, in the configured order."""
    versions = context.facts("train_models")["models"]
    source = parameters_of(fit, context.config)
    return {
        name: context.workspace.version(f"train_models.{name}", versions[name]).path(source)
        for name in context.config.models
    }
