"""Registered versions and their aliases: who is challenger, who is champion, and where their content lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mlflow.artifacts
from mlflow.exceptions import MlflowException

from recsys_spark.errors import UserError
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.tracking.registry import PIN
from recsys_spark.tracking.runs import Tracker

CHALLENGER, CHAMPION = "challenger", "champion"
COMPONENT, CONTENT = "component.", "model_version"


@dataclass(frozen=True)
class Registered:
    """A version in the registry."""

    name: str
    version: str
    source: str
    """Where MLflow keeps its files."""
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """Its `model_version` tag: the hash by which published rows name it; its version where it has none."""
        return self.tags.get(CONTENT) or f"{self.name}/{self.version}"

    @property
    def pins(self) -> dict[str, int]:
        """Stage to version, of what it was made from."""
        found = {key.removeprefix(PIN): value for key, value in self.tags.items() if key.startswith(PIN)}
        return {stage: int(version) for stage, version in sorted(found.items()) if version.isdigit()}

    @property
    def parts(self) -> dict[str, int]:
        """Recommender to the version of its stage, of what it is made of."""
        found = {key.removeprefix(COMPONENT): value for key, value in self.tags.items() if key.startswith(COMPONENT)}
        return {name: int(value.rpartition("/")[2]) for name, value in sorted(found.items())}


def aliased(tracker: Tracker, name: str, alias: str) -> Registered | None:
    """The version that an alias names, or None."""
    try:
        return _registered(tracker.client.get_model_version_by_alias(name, alias))
    except MlflowException:
        return None


def registered(tracker: Tracker, name: str, version: str) -> Registered | None:
    """A version by its number, or None."""
    try:
        return _registered(tracker.client.get_model_version(name, version))
    except MlflowException:
        return None


def _registered(found: object) -> Registered:
    return Registered(
        name=found.name,  # type: ignore[attr-defined]
        version=str(found.version),  # type: ignore[attr-defined]
        source=found.source,  # type: ignore[attr-defined]
        run_id=found.run_id,  # type: ignore[attr-defined]
        tags=dict(found.tags),  # type: ignore[attr-defined]
    )


def set_champions(tracker: Tracker, versions: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Point `champion` of each registered model at its version; of those that only `before` names, take it away.

    Raises UserError, before anything is changed, where a version is gone.
    """
    for name, version in versions.items():
        if registered(tracker, name, version) is None:
            raise UserError(f"registry: {name}/{version} is gone from {tracker.shown_uri}; it cannot be champion")
    for name in sorted(set(before) - set(versions)):
        tracker.client.delete_registered_model_alias(name, CHAMPION)
    for name, version in sorted(versions.items()):
        tracker.client.set_registered_model_alias(name, CHAMPION, version)


def model_directory(tracker: Tracker, model: Registered, scratch: Path) -> Path:
    """The FusedModel directory of a version: where MLflow keeps it, or downloaded into `scratch`.

    Raises UserError where it is gone or not what was registered.
    """
    try:
        found = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{model.source.rstrip('/')}/artifacts/model",
            dst_path=None if "://" not in model.source or model.source.startswith("file:") else str(scratch),
            tracking_uri=tracker.uri,
        )
    except (MlflowException, OSError):
        raise UserError(f"registry: the files of {model.name}/{model.version} at {model.source} are gone") from None
    directory = Path(found)
    content = model.tags.get(CONTENT)
    if content and content.rpartition("-")[2] != file_sha256(directory / MANIFEST)[:16]:
        raise UserError(f"registry: the files of {model.name}/{model.version} are not those that were registered")
    return directory
