"""The stage fuse_recommendations: the published lists, and the fused model in the registry."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pyspark.sql import functions as F

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import FusionSettings, Repeats, read_settings
from recsys_spark.monitoring.actions import check_publication
from recsys_spark.pipeline.describe import fused_card
from recsys_spark.pipeline.fits import model_bundles, moment_of
from recsys_spark.pipeline.list_rules import compiled_rules, under_rules, write_lists
from recsys_spark.pipeline.passes import FUSED, columns_for
from recsys_spark.pipeline.retraining import SETTINGS, learned_settings
from recsys_spark.pipeline.serving import MODEL_NAME, Serving, list_facts, registered_challenger, serving_model
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.pipeline.train import lineage_tags
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.scoring.blocks import spread
from recsys_spark.scoring.recommend import recommendation_rows
from recsys_spark.scoring.shipping import ship
from recsys_spark.tracking.registry import register


def run(context: StageContext, *, take_over: bool = False) -> StageResult:
    """Table recommendations for every user; the fused publish fit is registered with the alias `challenger`.

    The lists are the champion's where there is one (`fusion.use`). With `take_over` the lists of the newest version
    are taken over where they are already those that would be made. Raises UserError where an alert holds it up.
    """
    config = context.config
    assert context.as_of is not None, "its inputs are dated"
    if config.evaluation.only:
        raise UserError("evaluation.only: nothing is published; set it to false and run jobs/train_models.py first")
    check_publication(context.workspace)
    settings = read_settings(context.directory("fusion"))
    directory = context.run_directory / "model"
    bundles, fallback = model_bundles("publish", context)
    missing = {name for setting in settings.values() for name in setting.names} - set(bundles)
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
        compiled_rules(context, "publish", Vocabulary.load(fallback / "vocabulary.parquet")),
        columns_for(context, "publish", settings, fallback),
        config.fusion.explain_items,
    )
    # The content's hash, not the registry's counter: the same inputs give the same table.
    model_version = f"{MODEL_NAME}-{file_sha256(directory / MANIFEST)[:16]}"
    serving = serving_model(context, directory, model_version)
    facts = list_facts(context, serving, model_version)
    newest = context.previous
    if take_over and newest is not None and newest.facts.get("lists_key") == facts["lists_key"]:
        context.link_tables(newest)
        version = _register(context, settings, model_version)
        context.progress(f"the lists of version {newest.version} are those of {serving.content}")
        facts |= {"lists_run_id": newest.facts["lists_run_id"], "registered_version": version}
        return StageResult(metrics=newest.metrics, facts={**facts, "served_version": serving.version or version})
    metrics = publish_lists(context, serving)
    version = _register(context, settings, model_version)  # after the table: the alias never runs ahead of it
    return StageResult(
        metrics=metrics,
        facts={**facts, "registered_version": version, "served_version": serving.version or version},
    )


def publish_lists(context: StageContext, serving: Serving) -> dict[str, float]:
    """Write the tables of a model's lists for every user; how many there are, and how fast."""
    config = context.config
    assert context.as_of is not None, "its inputs are dated"
    started = time.monotonic()
    histories = context.read_table("histories")
    rows = recommendation_rows(
        spread(context.spark, histories, config.scoring.tasks),
        ship(context.spark, under_rules(context, serving.directory)),
        moment_of("publish", context),
        config.fusion.k,
        config.fusion.repeats,
        config.scoring.block_mb << 20,
        logged=config.rules.exploration.share > 0,
    )
    count = write_lists(
        context,
        rows.withColumns(
            {
                "model_version": F.lit(serving.content),
                "run_id": F.lit(context.run_id),
                # As text: a datetime would be taken in the time zone of this process.
                "generated_at": F.lit(context.as_of.isoformat(sep=" ")).cast("timestamp"),
            }
        ),
    )
    seconds = time.monotonic() - started
    users = histories.count()
    context.progress(f"{count} recommendations of the {serving.alias} for {users} users in {seconds:.1f} s")
    return {"recommendations": float(count), "users": float(users), "users_per_second": users / seconds}


def _register(context: StageContext, settings: dict[Repeats, FusionSettings], model_version: str) -> str:
    datasets = context.inputs["build_datasets"]
    metrics = context.facts("evaluate_models")["test_metrics"].get(FUSED, {})
    versions = context.facts("train_models")["models"]
    context.tracked.log_metrics(metrics)
    card = fused_card(context.config, datasets.facts, context.as_of or datetime.now(UTC), settings, metrics)
    components = {f"component.{name}": f"{name}/{version}" for name, version in versions.items()}
    tags = {**lineage_tags(context), **components, "model_version": model_version}
    tags[SETTINGS] = learned_settings(context.config)
    tags["evaluation_run_id"] = context.inputs["evaluate_models"].run_id
    known = registered_challenger(context, tags)
    if known is not None:
        return known.version
    return register(
        context.tracker,
        context.tracked,
        MODEL_NAME,
        context.run_directory / "model",
        card,
        tags,
        datasets.path("histories"),
        alias="challenger",
    )
