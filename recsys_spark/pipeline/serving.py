"""Who serves: the champion, or the challenger while there is none; and when its lists need not be made again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.pipeline.keys import code_version, paths_manifest
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import CHALLENGER, CHAMPION, Registered, aliased, model_directory
from recsys_spark.tracking.runs import Tracker

MODEL_NAME, EVALUATED = "recsys-fused", "evaluate_models"
WITHOUT_EFFECT = (
    "monitoring",
    "online",
    "promotion",
    "retraining",
    "schedule",
    "scoring",
    "serving",
    "spark",
    "stream",
    "tables",
    "tracking",
    "tuning",
    "workspace",
)
"""Sections of the configuration that the lists do not depend on."""


@dataclass(frozen=True)
class Serving:
    """The model whose lists are published."""

    directory: Path
    content: str
    """Hash of its content, as published rows name it."""
    alias: str
    """champion or challenger."""
    version: str | None
    """In the registry; None for a challenger that is not registered yet."""


def champion_of(config: Config, tracker: Tracker) -> Registered | None:
    """The champion, where there is one and `fusion.use` wants it to serve."""
    return aliased(tracker, MODEL_NAME, CHAMPION) if config.fusion.use == CHAMPION else None


def standing(config: Config, tracker: Tracker) -> Registered | None:
    """The registered model that serves where a run trains none: the champion, else the newest challenger."""
    return champion_of(config, tracker) or aliased(tracker, MODEL_NAME, CHALLENGER)


def followed_champion(config: Config, tracker: Tracker) -> str | None:
    """The content of the champion that the lists are made with; None where it is the challenger."""
    champion = champion_of(config, tracker)
    return champion.content if champion else None


def standing_content(config: Config, tracker: Tracker) -> str | None:
    """The content of the model that serves where a run trains none; None where there is none."""
    model = standing(config, tracker)
    return model.content if model else None


def serving_model(context: StageContext, own: Path, content: str) -> Serving:
    """The champion, where there is one and `fusion.use` wants it; else the model in `own`, the new challenger.

    A champion of the same content is taken from `own`. Raises UserError where the champion's files are gone.
    """
    champion = champion_of(context.config, context.tracker)
    if champion is None:
        return Serving(own, content, CHALLENGER, None)
    if champion.content == content:
        return Serving(own, content, CHAMPION, champion.version)
    try:
        directory = model_directory(context.tracker, champion, context.run_directory / "champion")
    except UserError as error:
        raise UserError(f"{error}; roll back (jobs/promote_model.py --rollback) or set fusion.use=challenger") from None
    return Serving(directory, champion.content, CHAMPION, champion.version)


def standing_model(context: StageContext) -> Serving:
    """`standing`, with its files. Raises UserError where there is no such model, or its files are gone."""
    model = standing(context.config, context.tracker)
    if model is None:
        raise UserError(f"registry: no {MODEL_NAME} serves yet; run jobs/run_pipeline.py --force")
    directory = model_directory(context.tracker, model, context.run_directory / "standing")
    alias = CHAMPION if champion_of(context.config, context.tracker) else CHALLENGER
    return Serving(directory, model.content, alias, model.version)


def made_here(workspace: Workspace, model: Registered, stage: str) -> Commit | None:
    """The version of `stage` that a model was made from; None where it is gone, or of another workspace."""
    try:
        evaluated, own = (workspace.version(name, model.pins.get(name, 0)) for name in (EVALUATED, stage))
    except UserError:
        return None
    return own if evaluated.run_id == model.tags.get("evaluation_run_id") else None


def registered_challenger(context: StageContext, tags: dict[str, str]) -> Registered | None:
    """The challenger, where it is this very model of these very inputs: it is not registered twice."""
    challenger = aliased(context.tracker, MODEL_NAME, CHALLENGER)
    wanted = {**tags, "code_version": code_version()}
    same = challenger is not None and all(
        challenger.tags.get(key) == value for key, value in wanted.items() if key != "run_id"
    )
    return challenger if same else None


def list_facts(context: StageContext, serving: Serving, model_version: str) -> dict[str, Any]:
    """What a version of the lists tells of itself: `model_version` is the model of the newest training."""
    return {
        "model": MODEL_NAME,
        "model_version": model_version,
        "lists_key": lists_key(context, serving),
        "lists_run_id": context.run_id,
        "served": serving.alias,
        "served_version": serving.version,
        "served_model_version": serving.content,
        "k": context.config.fusion.k,
        "repeats": context.config.fusion.repeats,
    }


def lists_key(context: StageContext, serving: Serving) -> str:
    """Hash of what the lists are made from: the model, the histories, the date, the configuration and the code."""
    settings = context.config.model_dump(mode="json")
    content = {
        "model": serving.content,
        "inputs": {name: commit.key for name, commit in context.inputs.items()},
        "as_of": str(context.as_of),
        "rule_files": paths_manifest(context.config.rules.files),
        "config": {name: value for name, value in settings.items() if name not in WITHOUT_EFFECT},
        "code": code_version(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
