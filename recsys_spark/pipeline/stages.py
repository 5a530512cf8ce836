"""The flow, as data: every stage with what it reads and depends on, in order."""

from __future__ import annotations

from recsys_spark.config import Config
from recsys_spark.datasets.build import run as build_datasets
from recsys_spark.events.cleaning import run as clean_events
from recsys_spark.features.build import run as build_features
from recsys_spark.features.fit import run as fit_features
from recsys_spark.pipeline import evaluate, fuse, train
from recsys_spark.pipeline.list_rules import and_rule_files
from recsys_spark.pipeline.reported import logged_files
from recsys_spark.pipeline.serving import followed_champion
from recsys_spark.pipeline.stage import Stage, always


def arrives_daily(config: Config) -> bool:
    """Do raw rows land by arrival date, so that a run extends the version before."""
    return config.daily


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            name="clean_events",
            upstream=(),
            config_keys=("source", "catalog", "cleaning", "quality", "tables.buckets"),
            run=clean_events,
            reads_source=True,
            dated=arrives_daily,
            append_only=arrives_daily,
        ),
        Stage(
            name="build_features",
            upstream=("clean_events",),
            config_keys=("catalog", "cleaning"),
            run=build_features,
            append_only=always,
            reads_source=True,
        ),
        Stage(
            name="build_datasets",
            upstream=("clean_events", "build_features"),
            config_keys=("split", "datasets", "evaluation.target_events", "evaluation.refit", "training", "seed"),
            run=build_datasets,
        ),
        Stage(
            name="fit_features",
            upstream=("clean_events", "build_features", "build_datasets"),
            config_keys=("features", "demographics", "evaluation.target_events", "evaluation.refit", "seed"),
            run=fit_features,
            reads_source=True,
        ),
        Stage(
            name="train_models",
            upstream=("build_datasets", "fit_features"),
            config_keys=(
                *("models", "recommenders", "training", "datasets"),
                *("evaluation.refit", "evaluation.only", "seed"),
                *train.WARM,
            ),
            run=train.run,
        ),
        Stage(
            name="evaluate_models",
            upstream=("build_features", "build_datasets", "fit_features", "train_models"),
            config_keys=("models", "evaluation", "fusion", "rules", "scoring", "cleaning.item_ids", "seed"),
            run=evaluate.run,
            follows=and_rule_files(logged_files),
        ),
        Stage(
            name="fuse_recommendations",
            upstream=("build_features", "build_datasets", "fit_features", "train_models", "evaluate_models"),
            config_keys=("models", "fusion", "rules", "scoring", "evaluation", "cleaning.item_ids", "seed"),
            run=fuse.run,
            follows=and_rule_files(followed_champion),
        ),
    )
}
