"""Who serves: the champion, or the challenger while there is none; and when its lists need not be made again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.pipeline.keys import code_version, paths_manifest
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tracking.aliases import CHALLENGER, CHAMPION, Registered, aliased, model_directory
from recsys_spark.tracking.runs import Tracker

MODEL_NAME = "recsys-fused"
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


def followed_champion(config: Config, tracker: Tracker) -> str | None:
    """The content of the champion that the lists are made with; None where it is the challenger."""
    if config.fusion.use == CHALLENGER:
        return None
    champion = aliased(tracker, MODEL_NAME, CHAMPION)
    return champion.content if champion else None


def serving_model(context: StageContext, own: Path, content: str) -> Serving:
    """The champion, where there is one and `fusion.use` wants it; else the model in `own`, the new challenger.

    A champion of the same content is taken from `own`. Raises UserError where the champion's files are gone.
    """
    champion = aliased(context.tracker, MODEL_NAME, CHAMPION) if context.config.fusion.use == CHAMPION else None
    if champion is None:
        return Serving(own, content, CHALLENGER, None)
    if champion.content == content:
        return Serving(own, content, CHAMPION, champion.version)
    scratch = context.run_directory / "champion"
    try:
        directory = model_directory(context.tracker, champion, scratch)
    except UserError as error:
        raise UserError(f"{error}; roll back (jobs/promote_model.py --rollback) or set fusion.use=challenger") from None
    return Serving(directory, champion.content, CHAMPION, champion.version)


def standing_model(context: StageContext) -> Serving:
    """The registered model that serves where a run trains none: the champion, else the newest challenger.

    Raises UserError where there is none, or its files are gone.
    """
    champion = aliased(context.tracker, MODEL_NAME, CHAMPION) if context.config.fusion.use == CHAMPION else None
    model = champion or aliased(context.tracker, MODEL_NAME, CHALLENGER)
    if model is None:
        raise UserError(f"registry: no {MODEL_NAME} serves yet; run jobs/run_pipeline.py --force")
    directory = model_directory(context.tracker, model, context.run_directory / "standing")
    return Serving(directory, model.content, CHAMPION if champion else CHALLENGER, model.version)


def standing_content(config: Config, tracker: Tracker) -> str | None:
    """The content of the model that serves where a run trains none; None where there is none."""
    champion = aliased(tracker, MODEL_NAME, CHAMPION) if config.fusion.use == CHAMPION else None
    model = champion or aliased(tracker, MODEL_NAME, CHALLENGER)
    return model.content if model else None


def registered_challenger(context: StageContext, tags: dict[str, str]) -> Registered | None:
    """The challenger, where it is this very model of these very inputs: it is not registered twice."""
    challenger = aliased(context.tracker, MODEL_NAME, CHALLENGER)
    wanted = {**tags, "code_version": code_version()}
    same = challenger is not None and all(
        challenger.tags.get(key) == value for key, value in wanted.items() if key != "run_id"
    )
    return challenger if same else None


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
