"""Stage build_datasets: histories, and for each fit its vocabulary, matrix and sequences."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.datasets.gathering import cold_items, write_datasets
from recsys_spark.datasets.passes import bucketed_ids, first_pass, second_pass, write_vocabularies
from recsys_spark.datasets.recipe import Recipe
from recsys_spark.datasets.split import (
    FOLD_NAMES,
    TEST,
    VALID,
    Plan,
    Spans,
    cut_times,
    cuts,
    iso,
    origins,
    plans,
    require_backtest,
    require_folds,
)
from recsys_spark.datasets.tasks import Totals
from recsys_spark.errors import UserError
from recsys_spark.events.layout import bucket_files
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.pipeline.stage import StageContext, StageResult

FORMAT = 3
"""Raised when the same input gives other files."""


def run(context: StageContext) -> StageResult:
    """Write the tables histories, cold_items and cold_targets, and the directory datasets.

    Facts: `num_items`, `num_rows` and `versions` of each fit and backtest, `cut_times` of these (epoch seconds),
    `valid_start` and `test_start` (ISO 8601, null for leave_one_out), the `folds` with their cold items and the users
    who wanted some, and the `backtests` with the start and end of their valid windows (epoch seconds). Raises UserError
    where a fold or a backtest's window has no event, or every event that a fit learns from weighs 0.
    """
    assert context.as_of is not None, "build_datasets reads events, so its date is known"
    config, spark = context.config, context.spark
    bounds = origins(config.split, cuts(config.split, context.as_of))
    clean, features = context.inputs["clean_events"], context.inputs["build_features"]
    scratch = context.new_directory("scratch")
    try:
        files = bucket_files(clean.path("clean_events"))
        histories, counts = context.new_table_directory("histories"), scratch / "counts"
        counts.mkdir()
        bucketed_ids(context.read_table("user_ids"), int(clean.facts["buckets"]), scratch / "user_ids")
        weights, item_ids = config.datasets.event_weights, features.path("item_ids")
        told = first_pass(spark, files, scratch / "user_ids", item_ids, weights, bounds, histories, counts)
        users = context.finish_table("histories")
        spans = [_spans(told, origin) for origin in range(len(bounds))]
        require_folds(config.split, bounds[0], spans[0])
        for number, own in enumerate(bounds[1:], 1):
            require_backtest(number, own, spans[number])
        chosen = plans(config.split, config.evaluation.refit, bounds, spans[0])
        _require_weights(config, chosen, told)
        output, targets = context.new_directory("datasets"), context.new_table_directory("cold_targets")
        built, found = build_fits(
            spark, histories, features.path("items"), config, chosen, told, output, scratch, targets
        )
        context.finish_table("cold_targets")
        cold = cold_items(spark, scratch, item_ids, context.new_table_directory("cold_items"))
        context.finish_table("cold_items")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    folds: dict[str, dict[str, Any]] = {
        FOLD_NAMES[fold]: {"events": events, "first": iso(first), "last": iso(last)}
        for fold, (events, first, last) in sorted(spans[0].items())
    }
    for fold in (VALID, TEST):
        wanted = found.get(("cold_targets", fold))
        folds[FOLD_NAMES[fold]] |= {"cold_items": cold.get(fold, 0), "cold_users": int(wanted["rows"]) if wanted else 0}
    context.progress(
        f"{users:,} histories; events: " + ", ".join(f"{name} {span['events']:,}" for name, span in folds.items())
    )
    metrics = {"users": float(users)}
    metrics |= {f"events_{name}": float(span["events"]) for name, span in folds.items()}
    metrics |= {f"cold_items_{FOLD_NAMES[fold]}": float(cold.get(fold, 0)) for fold in (VALID, TEST)}
    facts = {
        "num_items": {fit: described["num_items"] for fit, described in built.items()},
        "num_rows": {fit: described["num_rows"] for fit, described in built.items()},
        "versions": {fit: described["version"] for fit, described in built.items()},
        "cut_times": cut_times(bounds[0], spans[0]) | {plan.fit: plan.cut_time for plan in chosen if plan.origin},
        "valid_start": iso(bounds[0].valid_start),
        "test_start": iso(bounds[0].test_start),
        "folds": folds,
        "backtests": {
            plan.fit: {"valid_start": plan.cuts.valid_start, "valid_end": plan.cuts.as_of}
            for plan in chosen
            if plan.origin
        },
    }
    return StageResult(metrics=metrics, facts=facts)


def build_fits(
    spark: SparkSession,
    histories: Path,
    items: Path,
    config: Config,
    plans: Sequence[Plan],
    told: Totals,
    output: Path,
    scratch: Path,
    cold_targets: Path | None = None,
) -> tuple[dict[str, dict[str, Any]], Totals]:
    """Write `output/<fit>` of each plan; what each one's dataset.json says, and what the second pass told.

    `histories` and `items` are the tables' directories; `scratch/counts` holds the items' counts and `told` the events
    of each fold, as `first_pass` left them. `cold_targets` is the table's directory, where it is to be written.
    """
    recipe = recipe_of(config)
    for plan in plans:
        (output / plan.fit).mkdir(parents=True)
    num_items = write_vocabularies(spark, plans, scratch / "counts", items, output)
    files = [file for (file,) in bucket_files(histories)]
    found = second_pass(spark, files, plans, recipe, output, scratch, cold_targets)
    rows = write_datasets(spark, plans, recipe, found, output, scratch)
    built = {}
    for plan, number in zip(plans, num_items, strict=True):
        prints = [told.get((f"fold-{plan.origin}", fold)) for fold in plan.reads]
        events = [int(row["fingerprint"]) if row else 0 for row in prints]
        directory = output / plan.fit
        described = {
            "fit": plan.fit,
            "folds": list(plan.folds),
            "cut_time": plan.cut_time,
            "valid_window": [plan.cuts.valid_start, plan.cuts.test_start] if plan.validates else None,
            "num_items": number,
            "num_rows": rows[plan.fit],
            "max_length": recipe.max_length,
            "version": dataset_version(config, plan.fit, events, directory / "vocabulary.parquet", plan.cut_time),
        }
        (directory / "dataset.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        built[plan.fit] = described
    return built, found


def recipe_of(config: Config) -> Recipe:
    """The settings that rows depend on."""
    settings = config.datasets
    return Recipe(
        seed=config.seed,
        row_groups=settings.row_groups,
        max_length=settings.max_length,
        max_windows=settings.max_windows,
        half_life_days=settings.half_life_days,
        session_gap=settings.session_gap_minutes * 60,
        negatives=settings.negatives,
        negative_power=settings.negative_power,
        target_types=tuple(EVENT_TYPES.index(name) for name in config.evaluation.target_events if name in EVENT_TYPES),
        valid_users=config.training.valid_users,
    )


def dataset_version(config: Config, fit: str, fingerprints: list[int], vocabulary: Path, cut_time: int) -> str:
    """sha256 over what the files of a fit are made from: its events, its vocabulary, its cut and the settings."""
    content = {
        "format": FORMAT,
        "fit": fit,
        "events": fingerprints,
        "vocabulary": hashlib.sha256(vocabulary.read_bytes()).hexdigest(),
        "cut_time": cut_time,
        "datasets": config.datasets.model_dump(mode="json"),
        "target_events": list(config.evaluation.target_events),
        "valid_users": config.training.valid_users,
        "seed": config.seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _spans(told: Totals, origin: int) -> Spans:
    rows = {number: row for (name, number), row in told.items() if name == f"fold-{origin}"}
    return {fold: (int(row["rows"]), int(row["first"]), int(row["last"])) for fold, row in rows.items()}


def _require_weights(config: Config, plans: Sequence[Plan], told: Totals) -> None:
    """Raise UserError where no event that a fit learns from weighs anything: it could learn nothing."""
    for plan in plans:
        rows = [told.get((f"fold-{plan.origin}", fold)) for fold in plan.folds]
        if any(row and row["heaviest"] > 0 for row in rows):
            continue
        weighed = ", ".join(f"{name} {weight:g}" for name, weight in config.datasets.event_weights.items())
        raise UserError(
            f"datasets.event_weights: every event that {plan.fit} learns from weighs 0: none is of a type that has a "
            f"weight ({weighed}); give the log's types a weight, or map them to {', '.join(EVENT_TYPES)} by "
            "source.event_types"
        )
