"""Gathers what the page shows, and writes it where the stage's outputs are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from recsys_spark.config.sections import Repeats
from recsys_spark.evaluation.item_facts import POPULARITY_STRATA, age_names
from recsys_spark.evaluation.measures import ACTIVITIES, ACTIVITY, ITEM_AGE, ITEM_POPULARITY
from recsys_spark.evaluation.report import REPORT
from recsys_spark.evaluation.report.content import Comparison, Content, Measured, SampledUser, Segment
from recsys_spark.evaluation.report.curves import learning_curves
from recsys_spark.evaluation.report.explained import reasons_of
from recsys_spark.evaluation.report.page import report_page
from recsys_spark.evaluation.report.pictures import draw
from recsys_spark.evaluation.report.reading import read_rows
from recsys_spark.evaluation.report.scores import score_histograms
from recsys_spark.evaluation.report.users import Sources, sampled_histories, sampled_users
from recsys_spark.fusion.model import FusedModel
from recsys_spark.pipeline.fits import moment_of
from recsys_spark.pipeline.keys import code_version
from recsys_spark.pipeline.stage import StageContext

PLOTS = "plots"
"""The folder of the pictures, among the stage's outputs and the artifacts of its run."""
SHOWN_USERS = 50


def write_report(context: StageContext, model: Path, fusion: Path, counts: Mapping[str, int]) -> str:
    """Write and log the report and its pictures; returns its name among the stage's outputs.

    The stage's tables are written already. `model` is the directory of the model that was measured, `fusion` the file
    of its settings for each mode, `counts` are the users of the test window: `target_users`, of whom `no_history`.
    """
    content = _content(context, model, json.loads(fusion.read_text(encoding="utf-8")), counts)
    pictures = draw(content)
    plots = context.new_directory(PLOTS)
    for name, picture in pictures.items():
        (plots / f"{name}.png").write_bytes(picture.png)
    page = context.run_directory / REPORT
    page.write_text(report_page(content, pictures), encoding="utf-8")
    context.tracked.log_artifact(plots, PLOTS)
    context.tracked.log_artifact(page)
    context.progress(f"the report is {page}")
    return REPORT


def _content(
    context: StageContext, model: Path, fusions: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int]
) -> Content:
    config, tables = context.config, context.run_directory
    return Content(
        about=_about(context),
        versions=_versions(context),
        fusions={mode: fusions[mode] for mode in config.evaluation.modes},
        models=list(config.models),
        targets=list(config.evaluation.target_events),
        confidence=config.evaluation.confidence,
        k=min(config.evaluation.k),
        list_mode=_list_mode(context),
        metrics=read_rows(tables / "evaluation_metrics", Measured),
        segments=read_rows(tables / "evaluation_segments", Segment),
        divided={
            ACTIVITY: ACTIVITIES,
            ITEM_AGE: age_names(config.evaluation.item_age_days),
            ITEM_POPULARITY: POPULARITY_STRATA,
        },
        comparisons=read_rows(tables / "evaluation_comparisons", Comparison),
        curves=learning_curves(_parts(context), context.tracker.metric_history),
        scores=score_histograms(tables / "evaluation_recommendations"),
        users=_users(context, model),
        counts=counts,
    )


def _users(context: StageContext, model: Path) -> list[SampledUser]:
    config, mode = context.config, _list_mode(context)
    sources = Sources(
        histories=context.inputs["build_datasets"].path("histories"),
        items=context.inputs["build_features"].path("items"),
        lists=context.run_directory / "evaluation_recommendations",
        targets=config.evaluation.target_events,
        mode=mode,
    )
    histories = sampled_histories(sources, SHOWN_USERS)
    reasons = reasons_of(
        FusedModel.load(model),
        histories,
        moment_of("test", context),
        max(config.evaluation.k),
        mode,
        config.scoring.block_mb << 20,
    )
    return sampled_users(sources, histories, reasons, config.models)


def _list_mode(context: StageContext) -> Repeats:
    """The mode of the published lists, where it was measured."""
    modes = context.config.evaluation.modes
    published: Repeats = context.config.fusion.repeats
    return published if published in modes else modes[0]


def _parts(context: StageContext) -> dict[str, Mapping[str, Any]]:
    """What the training of each recommender told."""
    versions = context.facts("train_models")["models"]
    return {
        name: context.workspace.version(f"train_models.{name}", versions[name]).facts for name in context.config.models
    }


def _about(context: StageContext) -> dict[str, str]:
    config, timed = context.config, context.config.split.strategy == "temporal"
    about = {"run": context.run_id}
    if context.as_of is not None:
        last = (context.as_of - timedelta(days=1)).date()
        start = datetime.fromtimestamp(context.facts("build_datasets")["cut_times"]["test"], UTC)
        about |= {
            "date": str(last),
            "test window": f"{start:%Y-%m-%d} to {last}" if timed else "each user's last event",
        }
    return about | {
        "target events": ", ".join(config.evaluation.target_events),
        "cold items": config.evaluation.cold,
        "refit": "yes" if config.evaluation.refit else "no",
        "seed": str(config.seed),
        "code": code_version()[:12],
    }


def _versions(context: StageContext) -> dict[str, str]:
    """Committed versions: what the stage read, and what that was made from."""
    found: dict[str, str] = {}
    for stage, commit in context.inputs.items():
        found |= {upstream: str(version) for upstream, version in commit.inputs.items()}
        found[stage] = str(commit.version)
    return dict(sorted(found.items()))
