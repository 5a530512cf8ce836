"""Stage build_datasets: histories, and for each fit its vocabulary, matrix and sequences."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config import Config
from recsys_spark.datasets.histories import histories
from recsys_spark.datasets.matrix import MATRIX, matrix_rows
from recsys_spark.datasets.petastorm_writer import write_dataset
from recsys_spark.datasets.sequences import MAX_TARGETS, SEQUENCES, VALID_USERS, sequence_rows, valid_rows
from recsys_spark.datasets.split import FIT_FOLDS, FOLD_NAMES, cut_times, cuts, iso, require_folds
from recsys_spark.datasets.vocabulary import fold_spans, item_counts, write_vocabulary
from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.tables.location import spark_path

FORMAT = 2
"""Raised when the same input gives other files."""


def run(context: StageContext) -> StageResult:
    """Write the table histories and the directory datasets.

    Facts: `num_items`, `num_rows` and `versions` of each fit, `cut_times` of select, test and publish (epoch seconds),
    `valid_start` and `test_start` (ISO 8601, null for leave_one_out) and the `folds`. Raises UserError where a fold has
    no event, or every event weighs 0.
    """
    config = context.config
    assert context.as_of is not None, "build_datasets reads events, so its date is known"
    bounds = cuts(config.split, context.as_of)
    table = histories(
        context.read_table("clean_events"),
        context.read_table("item_ids"),
        context.read_table("user_ids"),
        config.datasets.event_weights,
        bounds,
    )
    users = context.write_table("histories", table)
    spark = context.spark
    written = context.written_table("histories")
    scratch = context.new_directory("scratch")
    try:
        item_counts(written).write.parquet(spark_path(scratch / "counts"))
        counts = spark.read.parquet(spark_path(scratch / "counts"))
        spans, fingerprints = fold_spans(counts)
        require_folds(config.split, bounds, spans)
        require_weights(counts, config)
        output = context.new_directory("datasets")
        fits = ("select", "test", "publish") if config.evaluation.refit else ("select", "publish")
        items = context.read_table("items")
        built = {fit: build_fit(written, counts, items, config, fit, fingerprints, output / fit) for fit in fits}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    folds = {
        FOLD_NAMES[fold]: {"events": events, "first": iso(first), "last": iso(last)}
        for fold, (events, first, last) in sorted(spans.items())
    }
    context.progress(
        f"{users:,} histories; events: " + ", ".join(f"{name} {span['events']:,}" for name, span in folds.items())
    )
    metrics = {"users": float(users)}
    metrics |= {f"events_{name}": float(span["events"] or 0) for name, span in folds.items()}
    facts = {
        "num_items": {fit: built[fit]["num_items"] for fit in fits},
        "num_rows": {fit: built[fit]["num_rows"] for fit in fits},
        "versions": {fit: built[fit]["version"] for fit in fits},
        "cut_times": cut_times(bounds, spans),
        "valid_start": iso(bounds.valid_start),
        "test_start": iso(bounds.test_start),
        "folds": folds,
    }
    return StageResult(metrics=metrics, facts=facts)


def require_weights(counts: DataFrame, config: Config) -> None:
    """Raise UserError where no event has a weight above 0: nothing could be learned from them."""
    heaviest = counts.agg(F.max("weight")).collect()[0][0]
    if not heaviest > 0:
        weighed = ", ".join(f"{name} {weight:g}" for name, weight in config.datasets.event_weights.items())
        raise UserError(
            f"datasets.event_weights: every event weighs 0: none is of a type that has a weight ({weighed}); "
            f"give the log's types a weight, or map them to {', '.join(EVENT_TYPES)} by source.event_types"
        )


def build_fit(
    histories: DataFrame,
    counts: DataFrame,
    items: DataFrame,
    config: Config,
    fit: str,
    fingerprints: Mapping[int, int],
    directory: Path,
) -> dict[str, Any]:
    """Write one fit's datasets and dataset.json; returns what that file says."""
    directory.mkdir()
    settings, folds, groups = config.datasets, FIT_FOLDS[fit], config.datasets.row_groups
    length, seed = settings.max_length, config.seed
    vocabulary = directory / "vocabulary.parquet"
    num_items = write_vocabulary(counts, items, folds, vocabulary)
    lengths = {"items": length, "event_types": length, "times": length, "targets": MAX_TARGETS}
    matrix = matrix_rows(histories, vocabulary, folds, seed, groups)
    sequences = sequence_rows(histories, vocabulary, folds, length, settings.max_windows, seed, groups)
    rows = {
        "matrix": write_dataset(matrix, MATRIX, lengths, directory / "matrix", groups),
        "sequences": write_dataset(sequences, SEQUENCES, lengths, directory / "sequences", groups),
    }
    if fit == "select":
        targets = [EVENT_TYPES.index(name) for name in config.evaluation.target_events if name in EVENT_TYPES]
        valid = valid_rows(histories, vocabulary, targets, length, config.training.valid_users, seed, groups)
        rows["valid"] = write_dataset(valid, VALID_USERS, lengths, directory / "valid", groups)
        folds_read: tuple[int, ...] = FIT_FOLDS["test"]
    else:
        folds_read = folds
    described = {
        "fit": fit,
        "folds": list(folds),
        "num_items": num_items,
        "num_rows": rows,
        "max_length": length,
        "version": dataset_version(config, fit, [fingerprints.get(fold, 0) for fold in folds_read], vocabulary),
    }
    (directory / "dataset.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
    return described


def dataset_version(config: Config, fit: str, fingerprints: list[int], vocabulary: Path) -> str:
    """sha256 over what the files of a fit are made from: its events, its vocabulary and the settings."""
    content = {
        "format": FORMAT,
        "fit": fit,
        "events": fingerprints,
        "vocabulary": hashlib.sha256(vocabulary.read_bytes()).hexdigest(),
        "datasets": config.datasets.model_dump(mode="json"),
        "target_events": list(config.evaluation.target_events),
        "valid_users": config.training.valid_users,
        "seed": config.seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
