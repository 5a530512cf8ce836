"""The three fits, and what each may see."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Literal

from recsys_spark.config import Config
from recsys_spark.datasets.split import FIT_FOLDS
from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FALLBACK
from recsys_spark.pipeline.origins import OriginContext
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.scoring.blocks import Moment

FitName = Literal["select", "test", "publish"]
"""The fits; `datasets.split.FIT_FOLDS` says which folds each one's histories hold when it recommends."""


def fits_of(config: Config) -> tuple[FitName, ...]:
    """The fits that have parameters of their own; without `refit` the test fit takes those of `select`."""
    reported: tuple[FitName, ...] = ("select", "test") if config.evaluation.refit else ("select",)
    return reported if config.evaluation.only else (*reported, "publish")


def parameters_of(fit: FitName, config: Config) -> FitName:
    """The fit whose bundles a fit uses."""
    return fit if fit in fits_of(config) else "select"


def moment_of(fit: FitName, context: StageContext) -> Moment:
    """What of each history is known when the fit recommends, and when that is."""
    assert context.as_of is not None, "whoever recommends has read events, so the date is known"
    if fit == "publish":
        return Moment(FIT_FOLDS[fit], int(context.as_of.replace(tzinfo=UTC).timestamp()))
    timeless = context.config.split.strategy == "leave_one_out"
    return Moment(FIT_FOLDS[fit], None if timeless else int(context.facts("build_datasets")["cut_times"][fit]))


def model_bundles(fit: FitName, context: StageContext) -> tuple[dict[str, Path], Path]:
    """Each configured recommender's bundle for a fit, in order; and that of the fallback. At an origin, its own.

    Raises UserError where train_models has not fitted one of them, or not for this fit.
    """
    if isinstance(context, OriginContext):
        return {name: context.bundles[name] for name in context.config.models}, context.bundles[FALLBACK]
    versions = context.facts("train_models")["models"]
    source = parameters_of(fit, context.config)
    bundles = {}
    for name in (*(name for name in context.config.models if name != FALLBACK), FALLBACK):
        if name not in versions:
            raise UserError(f"models: {name} is not among those that train_models fitted; run jobs/train_models.py")
        bundles[name] = context.workspace.version(f"train_models.{name}", versions[name]).path(source)
        if not bundles[name].is_dir():
            raise UserError(f"evaluation.refit: train_models has no {source} fit of {name}; run jobs/train_models.py")
    return {name: bundles[name] for name in context.config.models}, bundles[FALLBACK]
