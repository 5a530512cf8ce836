"""The models that serve: each a directory below the workspace's folder `online`, named by its content."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Collection
from pathlib import Path

from recsys_spark.errors import UserError
from recsys_spark.pipeline.serving import MODEL_NAME
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import model_directory, registered
from recsys_spark.tracking.runs import Tracker

FOLDER = "models"


def lists_model(workspace: Workspace, tracker: Tracker, commit: Commit, scratch: Path) -> Path:
    """The directory of the model that made the lists of a commit of fuse_recommendations, as it was when it did.

    It may be downloaded into `scratch`. Raises UserError where it is gone.
    """
    facts = commit.facts
    origin = next(
        (one for one in reversed(workspace.history(commit.stage)) if one.run_id == facts["lists_run_id"]), commit
    )
    if (origin.path("served") / MANIFEST).is_file():  # a champion under the rules of the day
        return origin.path("served")
    content = facts["served_model_version"]
    for one in (commit, origin):
        if one.facts["model_version"] == content and (one.path("model") / MANIFEST).is_file():
            return one.path("model")
    version = registered(tracker, MODEL_NAME, facts["served_version"])
    if version is None or version.content != content:
        raise UserError(f"registry: {content} is gone, which made the lists; run jobs/fuse_recommendations.py again")
    return model_directory(tracker, version, scratch)


def keep_model(directory: Path, folder: Path) -> tuple[Path, str]:
    """Put a model into `folder`, whole or not at all, by links where the file system can; its place and manifest hash.

    What stands there already under the same hash stays.
    """
    manifest = file_sha256(directory / MANIFEST)
    target = folder / manifest[:16]
    if not (target / MANIFEST).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{uuid.uuid4().hex}"
        try:
            shutil.copytree(directory, temporary, copy_function=_link)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target, manifest


def forget_models(folder: Path, kept: Collection[str]) -> None:
    """Remove the models that are not `kept` (paths), and what a killed `keep_model` left.

    A process that has one loaded keeps its mapped files.
    """
    for path in folder.glob("*"):
        if str(path) not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target
