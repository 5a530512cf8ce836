"""The stage train_models: every recommender is fitted for each fit, registered, and kept as a part of its own.

Each recommender is a part with its own key and commit, so changing one refits only that one, and a run that died goes
on with the first recommender that is missing.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from recsys_spark.config import Config
from recsys_spark.config.recommenders import NEURAL
from recsys_spark.datasets.split import FIT_FOLDS
from recsys_spark.errors import UserError
from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.fitting.registry import FITS
from recsys_spark.fusion.model import FALLBACK, FusedModel
from recsys_spark.fusion.settings import single
from recsys_spark.pipeline.describe import recommender_card
from recsys_spark.pipeline.fits import FitName, fits_of
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult
from recsys_spark.tracking.registry import register

DESCRIBED = ("content_knn", "segment_popularity")
"""Recommenders, besides the composed ones, that read the features of items."""
WARM = ("retraining.warm_start", "retraining.warm_epochs")
"""Keys of the configuration that neural fits depend on besides."""


def run(context: StageContext) -> StageResult:
    """Fit the configured recommenders one after the other; the facts name each one's committed version."""
    _check_language_model(context.config)
    versions: dict[str, int] = {}
    metrics: dict[str, float] = {}
    # The fallback comes first, wanted or not: it goes along with every registered model.
    for name in (FALLBACK, *(name for name in context.config.models if name != FALLBACK)):
        commit = context.run_part(part(name, context.config))
        versions[name] = commit.version
        metrics |= {f"{name}.{key}": value for key, value in commit.metrics.items()}
    return StageResult(metrics=metrics, facts={"models": versions})


def part(name: str, config: Config) -> Stage:
    """The fits of one recommender, as a stage: made again when the features change only where it reads them."""
    features = ("fit_features",) if reads_features(name, config) else ()
    fallback = (f"train_models.{FALLBACK}",) if name != FALLBACK else ()
    return Stage(
        name=f"train_models.{name}",
        upstream=("build_datasets", *features, *fallback),
        config_keys=(
            *(f"recommenders.{name}", "training", "datasets", "seed"),
            *("evaluation.refit", "evaluation.only", "evaluation.target_events", "fusion.repeats"),
            *(WARM if name in NEURAL else ()),
        ),
        run=partial(_fit_recommender, name=name),
    )


def _check_language_model(config: Config) -> None:
    """Refuse a language model that cannot be used before anything is fitted. Raises UserError."""
    if any("bert" in _item_parts(name, config) for name in config.models):
        from recsys_spark.models.language_model import read_directory

        assert config.features.tokenizer is not None, "the configuration was checked"
        read_directory(config.features.tokenizer)


def reads_features(name: str, config: Config) -> bool:
    """Does the recommender learn from what stage fit_features says of items."""
    settings = getattr(config.recommenders, name)
    described = name in DESCRIBED or bool(set(_item_parts(name, config)) - {"id"})
    beside = bool(getattr(settings, "affinity", ())) or getattr(settings, "id_start", "random") == "histories"
    return described or beside


def _item_parts(name: str, config: Config) -> tuple[str, ...]:
    """What the items of a composed recommender are made of; nothing for the others."""
    return getattr(getattr(config.recommenders, name), "item_encoder", ())


def _fit_recommender(context: StageContext, name: str) -> StageResult:
    """Bundles of `fits_of` the configuration; the other fits take over what `select` settled."""
    settings = getattr(context.config.recommenders, name).model_dump(mode="json")
    context.tracked.log_params(settings)
    started = time.monotonic()
    facts: dict[str, dict[str, Any]] = {}
    for fit in fits_of(context.config):
        context.progress(f"{fit} fit")
        facts[fit] = _fit(context, name, fit, frozen=facts.get("select", {}))
    metrics = {
        f"{fit}.{key}": float(value)
        for fit, values in facts.items()
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    metrics["seconds"] = time.monotonic() - started
    told: dict[str, Any] = {"fits": facts, "run_id": context.run_id}
    if "publish" in facts:
        told["registered_version"] = _register(context, name)
    return StageResult(metrics=metrics, facts=told)


def _fit(context: StageContext, name: str, fit: FitName, frozen: dict[str, Any]) -> dict[str, Any]:
    inputs = fit_inputs(context, name, fit, frozen)
    if name in NEURAL and context.config.retraining.warm_start:
        from recsys_spark.pipeline.starts import starts_of

        inputs = replace(inputs, starts=starts_of(context, inputs))
    return FITS[name](inputs)


def fit_inputs(context: StageContext, name: str, fit: FitName, frozen: dict[str, Any]) -> FitInputs:
    """What a fit of the recommender is given; the bundle goes into the run directory."""
    dataset = context.directory("datasets") / fit
    if not dataset.is_dir():
        raise UserError(f"evaluation.refit: build_datasets has no {fit} dataset; run jobs/build_datasets.py")
    features = context.inputs.get("fit_features")
    if features is not None and fit not in features.facts["versions"]:
        raise UserError(
            f"fit_features version {features.version} has no {fit} fit: nothing was trained; run jobs/fit_features.py"
        )
    return FitInputs(
        spark=context.spark,
        config=context.config,
        name=name,
        fit=fit,
        dataset=dataset,
        histories=context.read_table("histories"),
        folds=FIT_FOLDS[fit],
        cut_time=int(context.facts("build_datasets")["cut_times"][fit]),
        output=context.run_directory / fit,
        frozen=frozen,
        cache=context.workspace.root / "cache",
        scratch=context.workspace.scratch,
        features=Path(features.directory) if features is not None else None,
        progress=lambda message: context.progress(f"{fit} fit: {message}"),
        metric=lambda key, value, step: context.tracked.log_metrics({f"{fit}.{key}": value}, step),
    )


def _register(context: StageContext, name: str) -> str:
    """Register the publish fit, which serves alone what it serves in the fusion."""
    repeats = context.config.fusion.repeats
    directory = context.run_directory / "model"
    own = context.run_directory / "publish"
    FusedModel.save(
        directory,
        {name: own},
        own if name == FALLBACK else context.inputs[f"train_models.{FALLBACK}"].path("publish"),
        {"allow": single(name), "drop": single(name)},
        context.config.evaluation.target_events,
        context.config.datasets.event_weights,
        repeats,
    )
    datasets = context.inputs["build_datasets"]
    return register(
        context.tracker,
        context.tracked,
        f"recsys-{name}",
        directory,
        recommender_card(name, context.config, datasets.facts, context.as_of or datetime.now(UTC), {}),
        lineage_tags(context),
        datasets.path("histories"),
        alias="challenger",
    )


def lineage_tags(context: StageContext) -> dict[str, str]:
    """What a registered version was made from; `stage.*` tags keep these versions from being removed."""
    datasets = context.inputs["build_datasets"]
    return {
        **{f"stage.{stage}": str(commit.version) for stage, commit in context.inputs.items()},
        "data_version": str(datasets.inputs["clean_events"]),
        "id_map_version": str(datasets.inputs["build_features"]),
        "split_version": str(datasets.facts["versions"]["publish"]),
        "run_id": context.run_id,
    }
