"""The stage evaluate_models: the fusion is settled on the valid window, then all is measured on the test window."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.sections import Repeats
from recsys_spark.datasets.split import TEST, VALID
from recsys_spark.errors import UserError
from recsys_spark.evaluation.metrics import mean_metrics
from recsys_spark.evaluation.plots import plot_metric
from recsys_spark.evaluation.relevance import exploded_events, fold_users, relevant_items
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.search import search_weights
from recsys_spark.fusion.settings import FusionSettings, average, single
from recsys_spark.pipeline.describe import recommender_card
from recsys_spark.pipeline.fits import FitName, model_bundles, moment_of
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.scoring.blocks import spread
from recsys_spark.scoring.candidates import candidate_rows, load_candidates
from recsys_spark.scoring.evaluate import evaluation_rows
from recsys_spark.scoring.shipping import ShippedModel, ship
from recsys_spark.tables.location import spark_path
from recsys_spark.tracking.registry import update_card

FUSED = "fused"
Settings = dict[Repeats, FusionSettings]


def run(context: StageContext) -> StageResult:
    """Tables evaluation_recommendations and evaluation_metrics; the directory `fusion` holds the settled fusion."""
    settings, search_metrics = _settle_fusion(context)
    (context.new_directory("fusion") / "settings.json").write_text(
        json.dumps({mode: setting.to_json() for mode, setting in settings.items()}, indent=1), encoding="utf-8"
    )
    model, items = _shipped(context, "test", settings)
    lists = _lists(context, model, "test", TEST, {FUSED: settings})
    rows = context.write_table("evaluation_recommendations", lists)
    context.progress(f"{rows} rows of test lists")
    written = context.written_table("evaluation_recommendations")
    metrics = _measured(context, written, TEST, [*context.config.models, FUSED], items).persist()
    try:
        context.write_table("evaluation_metrics", metrics.orderBy("repeats", "model", "metric", "k"))
    finally:
        metrics.unpersist()
    values = _read_metrics(context)
    _log(context, values)
    events = exploded_events(context.read_table("histories"))
    users = fold_users(events, TEST, context.config.evaluation.target_events).first()
    assert users is not None
    extra = {
        "test.target_users": float(users["target_users"]),
        "test.users_without_history": float(users["no_history"]),
    }
    return StageResult(
        metrics={**search_metrics, **values.get(FUSED, {}), **extra},
        facts={"test_metrics": values},
    )


def _settle_fusion(context: StageContext) -> tuple[Settings, dict[str, float]]:
    """The fusion's settings for each mode of repeats, from the valid window alone, and what it scored there."""
    names, fusion = context.config.models, context.config.fusion
    equal: Settings = {"allow": average(names), "drop": average(names)}
    if fusion.method == "average" or len(names) == 1:
        return equal, {}
    model, items = _shipped(context, "select", equal)
    found: Settings = {}
    metrics: dict[str, float] = {}
    candidates = load_candidates(_write_candidates(context, model), names)
    if not len(candidates.relevant_count):
        raise UserError(
            "valid window: no user with history has a target event with a known item in it, so nothing can be chosen; "
            "check evaluation.target_events, source.event_types and split.valid_days, or set fusion.method=average"
        )
    for mode in equal:
        if mode == "drop" and (candidates.relevant_count == candidates.relevant_seen).all():
            context.progress("fusion, repeats drop: every valid target is a repeat, so the average is taken")
            found[mode] = equal[mode]
            continue
        result = search_weights(candidates, mode, fusion.optimise_k, fusion.min_gain)
        found[mode] = result.settings
        metrics[f"search.ndcg_at_{fusion.optimise_k}.{mode}"] = result.ndcg
        chosen = ", ".join(f"{c.weight:.3g} {c.name} ({c.normaliser.method})" for c in result.settings.components)
        context.progress(
            f"fusion, repeats {mode}: {chosen}; NDCG@{fusion.optimise_k} {result.ndcg:.4f} on search users"
        )
    return _confirmed(context, model, items, {"weighted": found, "average": equal}, metrics)


def _write_candidates(context: StageContext, model: ShippedModel) -> Path:
    """The search's table: seeded users of the valid window, at most `fusion.search_users` of them."""
    config = context.config
    valid_users = _with_fold(context.read_table("histories"), VALID)
    order = F.xxhash64(F.lit(config.seed), F.col("user_id"))
    chosen = valid_users.orderBy(order, "user_id").limit(config.fusion.search_users)
    rows = candidate_rows(
        spread(context.spark, chosen, config.scoring.tasks),
        model,
        moment_of("select", context),
        VALID,
        config.evaluation.target_events,
        config.evaluation.cold == "miss",
        config.fusion.search_candidates,
        config.scoring.block_mb << 20,
    )
    path = context.run_directory / "candidates"
    rows.write.parquet(spark_path(path))
    return path


def _confirmed(
    context: StageContext,
    model: ShippedModel,
    items: int,
    tried: Mapping[str, Settings],
    metrics: dict[str, float],
) -> tuple[Settings, dict[str, float]]:
    """The best on all valid users, by one full pass: the searched fusion, the average, or a single recommender."""
    config, k = context.config, context.config.fusion.optimise_k
    singles: dict[str, Settings] = {name: {"allow": single(name), "drop": single(name)} for name in config.models}
    lists = _lists(context, model, "select", VALID, tried, k).persist()
    try:
        measured = _measured(context, lists, VALID, [*config.models, *tried], items, (k,))
        rows = measured.where(F.col("metric") == "ndcg").collect()
    finally:
        lists.unpersist()
    best: Settings = {}
    everything = {**singles, **tried}
    for mode in ("allow", "drop"):
        scored = {row["model"]: row["value"] for row in rows if row["repeats"] == mode}
        winner = max(scored, key=lambda name: (scored[name], name == "average", name))
        best[mode] = everything[winner][mode]
        metrics |= {f"valid.ndcg_at_{k}.{name}.{mode}": value for name, value in scored.items()}
        context.progress(f"fusion, repeats {mode}: {winner} is confirmed with NDCG@{k} {scored[winner]:.4f} on valid")
    return best, metrics


def _lists(
    context: StageContext,
    model: ShippedModel,
    fit: FitName,
    fold: int,
    fusions: Mapping[str, Settings],
    k: int | None = None,
) -> DataFrame:
    config = context.config
    modes: tuple[Repeats, ...] = config.evaluation.modes if fold == TEST else ("allow", "drop")
    return evaluation_rows(
        spread(context.spark, _with_fold(context.read_table("histories"), fold), config.scoring.tasks),
        model,
        moment_of(fit, context),
        fusions,
        modes,
        k or max(config.evaluation.k),
        config.scoring.block_mb << 20,
    )


def _measured(
    context: StageContext,
    lists: DataFrame,
    fold: int,
    models: Sequence[str],
    items: int,
    ks: tuple[int, ...] | None = None,
) -> DataFrame:
    """Columns of `evaluation_metrics`, for each of the models and each mode of repeats that is measured."""
    evaluation = context.config.evaluation
    events = exploded_events(context.read_table("histories"))
    modes: tuple[Repeats, ...] = evaluation.modes if fold == TEST else ("allow", "drop")
    frames = []
    for mode in modes:
        relevant = relevant_items(
            events, context.read_table("items"), fold, evaluation.target_events, evaluation.cold, mode
        )
        chosen = lists.where(F.col("repeats") == mode)
        measured = mean_metrics(chosen, relevant, models, items, ks or evaluation.k)
        frames.append(measured.withColumn("repeats", F.lit(mode)))
    union = frames[0]
    for frame in frames[1:]:
        union = union.unionByName(frame)
    return union.select("model", "repeats", "metric", "k", "value", "users")


def _shipped(context: StageContext, fit: FitName, settings: Settings) -> tuple[ShippedModel, int]:
    """A model directory of a fit's bundles within the run directory, shipped; and its number of items."""
    directory = context.run_directory / f"model-{fit}"
    bundles, fallback = model_bundles(fit, context)
    FusedModel.save(
        directory,
        bundles,
        fallback,
        settings,
        context.config.evaluation.target_events,
        context.config.datasets.event_weights,
        context.config.fusion.repeats,
    )
    items = Vocabulary.load(next(iter(bundles.values())) / "vocabulary.parquet").size
    return ship(context.spark, directory), items


def _with_fold(histories: DataFrame, fold: int) -> DataFrame:
    return histories.where(F.array_contains("folds", fold))


def _read_metrics(context: StageContext) -> dict[str, dict[str, float]]:
    """Model to its metrics under the names of the contract, such as `test.ndcg_at_10` or `test.ndcg_at_10.drop`."""
    table = context.written_table("evaluation_metrics")
    values: dict[str, dict[str, float]] = {}
    for row in table.orderBy("model", "repeats", "metric", "k").collect():  # models x metrics: a few hundred rows
        suffix = ".drop" if row["repeats"] == "drop" else ""
        values.setdefault(row["model"], {})[f"test.{row['metric']}_at_{row['k']}{suffix}"] = row["value"]
    return values


def _log(context: StageContext, values: Mapping[str, Mapping[str, float]]) -> None:
    """Test metrics on each model's own run and in its card; a plot on this stage's run."""
    versions = context.facts("train_models")["models"]
    datasets = context.facts("build_datasets")
    for name in context.config.models:
        facts = context.workspace.version(f"train_models.{name}", versions[name]).facts
        measured = dict(values.get(name, {}))
        context.tracker.resume(facts["run_id"]).log_metrics(measured)
        card = recommender_card(name, context.config, datasets, context.as_of or datetime.now(UTC), measured)
        update_card(context.tracker, f"recsys-{name}", facts["registered_version"], card)
    k = context.config.evaluation.k[0]
    by_mode = {
        mode: {
            model: metrics[f"test.ndcg_at_{k}{'.drop' if mode == 'drop' else ''}"] for model, metrics in values.items()
        }
        for mode in context.config.evaluation.modes
    }
    path = context.new_directory("plots") / "ndcg.png"
    plot_metric(by_mode, context.config.evaluation.modes, f"NDCG@{k}", path)
    context.tracked.log_artifact(path, "plots")
