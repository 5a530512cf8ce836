"""The stage fuse_recommendations: the published lists, and the fused model in the registry."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from pyspark.sql import functions as F

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import FusionSettings, Repeats
from recsys_spark.pipeline.describe import fused_card
from recsys_spark.pipeline.evaluate import FUSED
from recsys_spark.pipeline.fits import model_bundles, moment_of
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.pipeline.train import lineage_tags
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.scoring.blocks import spread
from recsys_spark.scoring.recommend import recommendation_rows
from recsys_spark.scoring.shipping import ship
from recsys_spark.tracking.registry import register

MODEL_NAME = "recsys-fused"


def run(context: StageContext) -> StageResult:
    """Table recommendations for every user; the fused publish fit is registered with the alias `challenger`."""
    config = context.config
    assert context.as_of is not None, "its inputs are dated"
    content = json.loads((context.directory("fusion") / "settings.json").read_text(encoding="utf-8"))
    settings: dict[Repeats, FusionSettings] = {mode: FusionSettings.from_json(entry) for mode, entry in content.items()}
    directory = context.run_directory / "model"
    bundles, fallback = model_bundles("publish", context)
    missing = {c.name for setting in settings.values() for c in setting.components} - set(bundles)
    if missing:
        raise UserError(f"models: evaluate_models fused {sorted(missing)} too; run jobs/evaluate_models.py again")
    FusedModel.save(
        directory,
        bundles,
        fallback,
        settings,
        config.evaluation.target_events,
        config.datasets.event_weights,
        config.fusion.repeats,
    )
    # The content's hash, not the registry's counter: the same inputs give the same table.
    model_version = f"{MODEL_NAME}-{file_sha256(directory / MANIFEST)[:16]}"
    started = time.monotonic()
    histories = context.read_table("histories")
    rows = recommendation_rows(
        spread(context.spark, histories, config.scoring.tasks),
        ship(context.spark, directory),
        moment_of("publish", context),
        config.fusion.k,
        config.fusion.repeats,
        config.scoring.block_mb << 20,
    )
    count = context.write_table(
        "recommendations",
        rows.withColumns(
            {
                "model_version": F.lit(model_version),
                "run_id": F.lit(context.run_id),
                # As text: a datetime would be taken in the time zone of this process.
                "generated_at": F.lit(context.as_of.isoformat(sep=" ")).cast("timestamp"),
            }
        ),
    )
    seconds = time.monotonic() - started
    version = _register(context, settings, model_version)  # after the table: the alias never runs ahead of it
    users = histories.count()
    context.progress(f"{count} recommendations for {users} users in {seconds:.1f} s")
    return StageResult(
        metrics={"recommendations": float(count), "users": float(users), "users_per_second": users / seconds},
        facts={"registered_version": version, "model": MODEL_NAME, "model_version": model_version},
    )


def _register(context: StageContext, settings: dict[Repeats, FusionSettings], model_version: str) -> str:
    datasets = context.inputs["build_datasets"]
    metrics = context.facts("evaluate_models")["test_metrics"].get(FUSED, {})
    versions = context.facts("train_models")["models"]
    context.tracked.log_metrics(metrics)
    card = fused_card(context.config, datasets.facts, context.as_of or datetime.now(UTC), settings, metrics)
    components = {f"component.{name}": f"{name}/{version}" for name, version in versions.items()}
    return register(
        context.tracker,
        context.tracked,
        MODEL_NAME,
        context.run_directory / "model",
        card,
        {**lineage_tags(context), **components, "model_version": model_version},
        datasets.path("histories"),
        alias="challenger",
    )
