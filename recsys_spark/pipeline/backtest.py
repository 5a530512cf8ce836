"""The stage backtest_models: what the recommenders and their fusion would have been worth at earlier origins.

The origins are walked forward. What an origin's fit cannot learn from its own train time, the fusion's settings and
when a training stops, is chosen on the newest origin whose whole window lies before; the oldest has the average, and
trains to the last epoch. Each fit is a part with its own key and commit, so a run that died goes on where it stood.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from recsys_spark.config.recommenders import NEURAL
from recsys_spark.datasets.split import TEST, TRAIN, iso
from recsys_spark.features.apply import ITEM_TABLES
from recsys_spark.features.fit import Occasion, learn
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.fitting.registry import FITS
from recsys_spark.fusion.model import FALLBACK
from recsys_spark.fusion.settings import average
from recsys_spark.pipeline.origins import Origin, OriginContext, before, origins_of
from recsys_spark.pipeline.passes import FUSED, MODES, Settings, list_rows, shipped
from recsys_spark.pipeline.reported import measured_users, metric_rows
from recsys_spark.pipeline.settle import settle_fusion
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult
from recsys_spark.tables.schemas import TABLES

STAGE = "backtest_models"
TABLE = "backtest_metrics"
BUNDLE = "bundle"


def backtest_stage() -> Stage:
    """The stage; it is no arrow of the daily flow."""
    return Stage(
        name=STAGE,
        upstream=("clean_events", "build_features", "build_datasets"),
        config_keys=("models", "recommenders", "features", "training", "evaluation", "fusion", "scoring", "seed"),
        run=run,
        reads_source=True,
    )


def run(context: StageContext) -> StageResult:
    """Table backtest_metrics.

    Facts: `origins`, oldest first, each with its window, the origin on which its fusion was chosen, and the settings.
    """
    origins = origins_of(context)
    fitted: dict[int, tuple[Path, dict[str, Path]]] = {}
    rows: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    for origin in origins:
        earlier = before(origin, origins)
        chosen_on = f"the fusion is chosen on {earlier.name}" if earlier else "the average, since no window lies before"
        context.progress(f"{origin.name}: {iso(origin.valid_start)} to {iso(origin.valid_end)}; {chosen_on}")
        fitted[origin.number] = _fitted(context, origin, earlier)
        settings: Settings = {mode: average(context.config.models) for mode in MODES}
        if earlier is not None:
            folder = f"{origin.name}-settled"
            settings, _ = settle_fusion(OriginContext.of(context, earlier, "select", *fitted[earlier.number], folder))
        folder = f"{origin.name}-scored"
        rows += _scored(OriginContext.of(context, origin, "test", *fitted[origin.number], folder), settings)
        told.append(
            {
                "origin": origin.number,
                "valid_start": iso(origin.valid_start),
                "valid_end": iso(origin.valid_end),
                "chosen_on": earlier.number if earlier else None,
                "settings": {mode: setting.to_json() for mode, setting in settings.items()},
            }
        )
        for folder in ("settled", "scored"):
            shutil.rmtree(context.run_directory / f"{origin.name}-{folder}", ignore_errors=True)
    context.write_table(TABLE, context.spark.createDataFrame(rows, TABLES[TABLE].schema))
    summary = summarised(rows)
    k = context.config.evaluation.k[0]
    for (model, repeats, metric, at), (mean, least) in summary.items():
        if (metric, at) == ("ndcg", k):
            context.progress(f"{model}, repeats {repeats}: NDCG@{k} {mean:.4f} on average, {least:.4f} at least")
    metrics = {
        f"backtest.{model}.{metric}_at_{at}{'.drop' if repeats == 'drop' else ''}.{name}": value
        for (model, repeats, metric, at), values in summary.items()
        for name, value in zip(("mean", "min"), values, strict=True)
    }
    return StageResult(metrics=metrics, facts={"origins": told})


def summarised(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str, int], tuple[float, float]]:
    """Mean and least value over the origins of each model, repeats, metric and k."""
    values: dict[tuple[str, str, str, int], list[float]] = {}
    for row in rows:
        if row["value"] is not None:
            values.setdefault((row["model"], row["repeats"], row["metric"], row["k"]), []).append(row["value"])
    return {key: (sum(own) / len(own), min(own)) for key, own in values.items()}


def _fitted(context: StageContext, origin: Origin, earlier: Origin | None) -> tuple[Path, dict[str, Path]]:
    """The origin's features, and every recommender's bundle of its fit."""
    features = context.run_part(_features_part(origin))
    bundles = {}
    for name in (FALLBACK, *(name for name in context.config.models if name != FALLBACK)):
        bundles[name] = context.run_part(_fit_part(name, origin, earlier)).path(BUNDLE)
    return Path(features.directory), bundles


def _features_part(origin: Origin) -> Stage:
    """What stage fit_features would have learned at the origin, as a stage."""
    return Stage(
        name=_part_name(origin, "features"),
        upstream=("clean_events", "build_features", "build_datasets"),
        config_keys=("features", "evaluation.target_events", "seed"),
        run=partial(_fit_features, origin=origin),
        reads_source=True,
    )


def _fit_part(name: str, origin: Origin, earlier: Origin | None) -> Stage:
    """The fit of one recommender at the origin, as a stage."""
    needed = [origin] if earlier is None or name not in NEURAL else [origin, earlier]
    return Stage(
        name=_part_name(origin, name),
        upstream=("build_datasets", *(_part_name(each, "features") for each in needed)),
        config_keys=(
            *(f"recommenders.{name}", "training", "datasets", "seed"),
            *("evaluation.target_events", "fusion.repeats"),
        ),
        run=partial(_fit, name=name, origin=origin, earlier=earlier),
    )


def _part_name(origin: Origin, what: str) -> str:
    return f"{STAGE}.{origin.number}.{what}"


def _fit_features(context: StageContext, origin: Origin) -> StageResult:
    """The directory features/<fit> and the tables of items of an origin, beside one another as those of the stage."""
    occasion = Occasion(
        histories=origin.histories(context.read_table("histories")),
        folds={origin.fit: (TRAIN,)},
        cut_times={origin.fit: origin.valid_start},
        starts=(str(iso(origin.valid_start)), str(iso(origin.valid_end))),
        as_of=datetime.fromtimestamp(origin.valid_end, UTC).replace(tzinfo=None),
    )
    return StageResult(facts=learn(context, occasion, {name: context.new_directory(name) for name in ITEM_TABLES}))


def _fit(context: StageContext, name: str, origin: Origin, earlier: Origin | None) -> StageResult:
    """The bundle of an origin's fit.

    A training that stopped by its own window would be measured where it was chosen: it stops after as many epochs as
    were best on the earlier origin's window, which costs a second training there.
    """
    frozen: Facts = {}
    if name in NEURAL:
        frozen = {"best_epoch": getattr(context.config.recommenders, name).epochs}
        if earlier is not None:
            frozen = FITS[name](_inputs(context, name, earlier, "settling", {}))
            shutil.rmtree(context.run_directory / "settling")
    facts = FITS[name](_inputs(context, name, origin, BUNDLE, frozen))
    numbers = {
        key: float(value)
        for key, value in facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return StageResult(metrics=numbers, facts={"fit": facts, "frozen": frozen})


def _inputs(context: StageContext, name: str, origin: Origin, output: str, frozen: Facts) -> FitInputs:
    """What a fit at the origin is given: nothing of its window or later, but the dataset of valid users."""
    return FitInputs(
        spark=context.spark,
        config=context.config,
        name=name,
        fit=origin.fit,
        dataset=context.directory("datasets", "build_datasets") / origin.name,
        histories=origin.histories(context.read_table("histories")),
        folds=(TRAIN,),
        cut_time=origin.valid_start,
        output=context.run_directory / output,
        frozen=frozen,
        cache=context.workspace.root / "cache",
        scratch=context.workspace.scratch,
        features=Path(context.inputs[_part_name(origin, "features")].directory),
        progress=lambda message: context.progress(f"{origin.name}: {message}"),
        metric=lambda key, value, step: context.tracked.log_metrics({f"{origin.name}.{output}.{key}": value}, step),
    )


def _scored(own: OriginContext, settings: Settings) -> list[dict[str, Any]]:
    """Rows of the table for one origin: some hundred, whatever the numbers of users and items."""
    models = [*own.config.models, FUSED]
    model, items = shipped(own, "test", settings)
    users = measured_users(own, None)
    lists = list_rows(own, model, "test", TEST, {FUSED: settings}, users).persist()
    try:
        found, _, _ = metric_rows(own, users, lists, models, items)
    finally:
        lists.unpersist()
    start, end = (datetime.fromtimestamp(each, UTC) for each in (own.origin.valid_start, own.origin.valid_end))
    window = {"origin": own.origin.number, "valid_start": start, "valid_end": end}
    names = [name for name in TABLES[TABLE].schema.names if name not in window]
    return [{**window, **dict(zip(names, row, strict=True))} for row in found]
