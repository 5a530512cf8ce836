"""A night without training: the model that serves makes its lists from the newest histories, and nothing is fitted.

Its parameters, weights and settings stay as they were registered; business rules are those of the day.
"""

from __future__ import annotations

from dataclasses import replace

from recsys_spark.features.fit import run_published
from recsys_spark.monitoring.actions import check_publication
from recsys_spark.pipeline.fuse import publish_lists
from recsys_spark.pipeline.list_rules import and_rule_files
from recsys_spark.pipeline.serving import list_facts, standing_content, standing_model
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult
from recsys_spark.pipeline.stages import STAGES

PUBLISHING, FEATURES = "fuse_recommendations", "fit_features"


def kept_stages() -> dict[str, Stage]:
    """What follows build_datasets on such a night, in order: features are what rules and monitoring know items by."""
    publishing = Stage(
        name=PUBLISHING,
        upstream=("build_features", "build_datasets", FEATURES),
        config_keys=("fusion", "rules", "scoring", "cleaning.item_ids", "seed"),
        run=run,
        follows=and_rule_files(standing_content),
    )
    features = replace(STAGES[FEATURES], run=run_published, follows=lambda config, tracker: "publish alone")
    return {FEATURES: features, PUBLISHING: publishing}


def run(context: StageContext) -> StageResult:
    """Publish table recommendations of the model that serves; nothing is registered.

    Raises UserError where there is no such model, or an alert holds publication up.
    """
    check_publication(context.workspace)
    serving = standing_model(context)
    metrics = publish_lists(context, serving)
    return StageResult(metrics=metrics, facts={**list_facts(context, serving, serving.content), "kept": True})
