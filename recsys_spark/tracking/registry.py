"""The model registry: fused models as MLflow pyfuncs "from code", with cards, tags and aliases.

What is registered holds the bundles, the package's sources and one code file; nothing in it is a pickle. All goes
through clients of the tracker, so MLflow's global settings are never touched.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources.abc import Traversable
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from recsys_spark.errors import UserError
from recsys_spark.pipeline.keys import code_version
from recsys_spark.tracking.cards import ModelCard
from recsys_spark.tracking.runs import TrackedRun, Tracker, code_tags

PREFIX = "recsys-"
PIN = "stage."
"""A version tagged `stage.build_datasets = 3` needs version 3 of build_datasets to be kept."""
REQUIRED = ("lightgbm", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "PyYAML", "safetensors", "scipy", "torch")
"""What loading a registered model takes: no Spark."""


def register(
    tracker: Tracker,
    run: TrackedRun,
    model_name: str,
    model_directory: Path,
    card: ModelCard,
    tags: Mapping[str, str],
    histories: Path | None,
    alias: str | None,
) -> str:
    """Register a FusedModel directory as a new version of `model_name`; returns the version.

    `histories` is the histories table that `user_id` rows are looked up in: only its path goes into the model, with
    the card's `trained_until`, from which the ages of events are counted. Tags named `stage.<stage>` pin that stage's
    version as long as the model's version has an alias.
    """
    client = tracker.client
    all_tags = {"code_version": code_version(), **code_tags(), **{key: str(value) for key, value in tags.items()}}
    logged = client.create_logged_model(tracker.experiment_id, name=model_name, source_run_id=run.run_id, tags=all_tags)
    with tempfile.TemporaryDirectory(prefix="recsys-model-") as scratch:
        target = Path(scratch) / "model"
        metadata = Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
            run_id=run.run_id,
        )
        _save(target, metadata, model_directory, histories, card.trained_until, Path(scratch))
        client.log_model_artifacts(logged.model_id, str(target))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    _ensure_registered(tracker, model_name, card)
    created = client.create_model_version(
        model_name, logged.artifact_location, run_id=run.run_id, tags=all_tags, model_id=logged.model_id
    )
    version = str(created.version)
    update_card(tracker, model_name, version, card)
    if alias:
        client.set_registered_model_alias(model_name, alias, version)
    return version


def update_card(tracker: Tracker, model_name: str, version: str, card: ModelCard) -> None:
    """Describe a version anew, for instance once its test metrics are known."""
    tags = tracker.client.get_model_version(model_name, version).tags
    text = card.version_description(model_name, version, tracker.shown_uri, lineage=dict(sorted(tags.items())))
    tracker.client.update_model_version(model_name, version, description=text)


def registered_versions(tracker: Tracker) -> list[tuple[str, str, str]]:
    """Name, alias and version of every alias of our registered models, in order."""
    found: list[tuple[str, str, str]] = []
    token: str | None = None
    while True:
        page = tracker.client.search_registered_models(f"name LIKE '{PREFIX}%'", page_token=token)
        found += [(model.name, alias, str(version)) for model in page for alias, version in model.aliases.items()]
        token = page.token
        if not token:
            return sorted(found)


def pinned_versions(tracker: Tracker) -> list[tuple[str, int]]:
    """Stage and version of all that an aliased model version needs, from its `stage.<stage>` tags."""
    pinned: set[tuple[str, int]] = set()
    for name, version in {(name, version) for name, _, version in registered_versions(tracker)}:
        for key, value in tracker.client.get_model_version(name, version).tags.items():
            if key.startswith(PIN) and re.fullmatch(r"\d+", value):
                pinned.add((key.removeprefix(PIN), int(value)))
    return sorted(pinned)


def _ensure_registered(tracker: Tracker, name: str, card: ModelCard) -> None:
    with suppress(MlflowException):  # it exists: the usual case
        tracker.client.create_registered_model(name)
    text = card.model_description(name, tracker.shown_uri)
    tracker.client.update_registered_model(name, description=text)


def _save(
    target: Path, metadata: Model, model_directory: Path, histories: Path | None, as_of: str, scratch: Path
) -> None:
    """Write the MLflow model to the new directory `target`."""
    package = scratch / "code" / "recsys_spark"
    _copy_sources(importlib.resources.files("recsys_spark"), package)
    reference = scratch / "histories.json"
    content = {"path": str(histories.absolute()) if histories else None, "as_of": as_of}
    reference.write_text(json.dumps(content, indent=1), encoding="utf-8")
    signature, example = _signature(model_directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            path=str(target),
            mlflow_model=metadata,
            python_model=str(package / "tracking" / "served_model.py"),
            artifacts={"model": str(model_directory), "histories": str(reference)},
            code_paths=[str(package)],
            signature=signature,
            input_example=example,
            pip_requirements=_requirements(),
        )
    for cache in sorted(target.rglob("__pycache__")):
        shutil.rmtree(cache)


def _copy_sources(folder: Traversable, target: Path) -> None:
    """Copy the package's Python files; it may stand in a folder or in a zip that Spark shipped."""
    target.mkdir(parents=True)
    for child in folder.iterdir():
        if child.is_dir() and child.name != "__pycache__":
            _copy_sources(child, target / child.name)
        elif child.name.endswith(".py"):
            (target / child.name).write_bytes(child.read_bytes())


def _signature(model_directory: Path) -> tuple[ModelSignature, tuple[pd.DataFrame, dict[str, object]]]:
    """Signature and example: a row of a user, and a row of a raw history."""
    try:
        settings = json.loads((model_directory / "fusion.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"model {model_directory}: fusion.json is missing or damaged; fuse again") from None
    params: dict[str, object] = {"k": 10, "repeats": settings.get("default_repeats", "allow")}
    signature = ModelSignature(
        inputs=Schema(
            [
                ColSpec(DataType.string, "user_id", required=False),
                ColSpec(Array(DataType.string), "history", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(DataType.string, "user_id", required=False),
                ColSpec(Array(DataType.string), "item_ids"),
                ColSpec(Array(DataType.float), "scores"),
                ColSpec(Array(DataType.string), "reasons"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("k", DataType.long, params["k"]),
                ParamSpec("repeats", DataType.string, params["repeats"]),
            ]
        ),
    )
    example = pd.DataFrame({"user_id": ["1", None], "history": [None, ["item-1", "item-2"]]})
    return signature, (example, params)


def _requirements() -> list[str]:
    """The installed versions, without the local part (`+cpu`) that package indexes do not know."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in REQUIRED]
