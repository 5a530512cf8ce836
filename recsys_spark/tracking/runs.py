"""Tracked runs: what the pipeline tells MLflow while it works. Only the driver writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from recsys_spark.config import Config
from recsys_spark.credentials import secret_of
from recsys_spark.errors import UserError
from recsys_spark.redaction import covered, covered_values

Entry = TypeVar("Entry")


class TrackedRun:
    """A run in MLflow. As a context manager it ends FINISHED, or FAILED when an exception passes."""

    def __init__(self, client: MlflowClient, run_id: str, *, owned: bool = True) -> None:
        self._client = client
        self.run_id = run_id
        self._owned = owned
        """Does leaving the context end the run: not where an ended run was resumed."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; mappings are flattened to dotted keys, values longer than MLflow's limit are cut."""
        entries = [Param(_key(key), _cut(value, MAX_PARAM_VAL_LENGTH)) for key, value in _flat(covered_values(params))]
        for batch in _batches(entries, MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self.run_id, params=batch)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics, at a step of a curve where one is given."""
        now = int(time.time() * 1000)
        entries = [Metric(_key(key), float(value), now, step or 0) for key, value in metrics.items()]
        for batch in _batches(entries, MAX_METRICS_PER_BATCH):
            self._client.log_batch(self.run_id, metrics=batch)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or a directory with all that is in it, among the run's artifacts."""
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), folder)
        else:
            self._client.log_artifact(self.run_id, str(path), folder)

    def log_json(self, obj: Any, artifact_file: str) -> None:
        """Store a JSON value as the artifact `artifact_file`."""
        plain = json.loads(json.dumps(obj, default=str))
        self._client.log_text(self.run_id, json.dumps(covered_values(plain), indent=1, sort_keys=True), artifact_file)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; values longer than MLflow's limit are cut."""
        entries = [RunTag(_key(key), _cut(value, MAX_TAG_VAL_LENGTH)) for key, value in covered_values(tags).items()]
        for batch in _batches(entries, MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self.run_id, tags=batch)

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the run with another status than leaving the context would give it."""
        self._client.set_terminated(self.run_id, status)
        self._owned = False

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned:
            self._client.set_terminated(self.run_id, "FAILED" if kind else "FINISHED")


class Tracker:
    """Where runs are tracked and models registered: `tracking.uri`, or a SQLite file in the workspace.

    Raises UserError where the server does not answer or the URI is not one that MLflow takes.
    """

    def __init__(self, config: Config, workspace_root: Path) -> None:
        root = workspace_root.absolute()
        tracking = config.tracking
        named = tracking.uri if tracking.uri_env is None else secret_of(tracking.uri_env, "tracking.uri_env")
        self.uri = named or f"sqlite:///{root / 'mlflow.db'}"
        self.shown_uri = tracking_place(self.uri, tracking.uri_env)
        """The address as everybody may read it."""
        if named is None:
            root.mkdir(parents=True, exist_ok=True)
        elif urlsplit(self.uri).scheme in ("", "file"):
            raise UserError(
                f"tracking.uri {self.shown_uri}: MLflow keeps no runs in plain folders; give sqlite:/// or http://"
            )
        try:
            self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            self.experiment_id = self._experiment(config.tracking.experiment, root)
        except (MlflowException, OSError, ImportError) as error:
            reason = covered(" ".join(str(error).split()))[:200]
            raise UserError(
                f"tracking.uri {self.shown_uri}: MLflow cannot use it ({reason}); check the address"
            ) from None

    def _experiment(self, name: str, root: Path) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # A server knows where its artifacts go; with a bare database MLflow would put them where the caller stands.
            served = urlsplit(self.uri).scheme in ("http", "https", "databricks", "uc")
            location = None if served else (root / "mlartifacts").as_uri()
            try:
                return str(self.client.create_experiment(name, artifact_location=location))
            except MlflowException:
                found = self.client.get_experiment_by_name(name)  # another process was first
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UserError(f"tracking.experiment {name}: was deleted in MLflow; restore it or choose another name")
        return str(found.experiment_id)

    def start(
        self,
        name: str,
        parent: TrackedRun | None = None,
        tags: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> TrackedRun:
        """Start a run, below `parent` where one is given."""
        of_parent = {MLFLOW_PARENT_RUN_ID: parent.run_id} if parent else {}
        run = self.client.create_run(self.experiment_id, run_name=name, tags=of_parent)
        tracked = TrackedRun(self.client, run.info.run_id)
        tracked.set_tags({**code_tags(), **(tags or {})})
        tracked.log_params(params or {})
        return tracked

    def resume(self, run_id: str) -> TrackedRun:
        """An ended run, to log more to it; its status stays. Raises UserError where there is none of that id."""
        try:
            self.client.get_run(run_id)
        except MlflowException:
            raise UserError(
                f"run {run_id}: not found in {self.shown_uri}; run the pipeline again with --force"
            ) from None
        return TrackedRun(self.client, run_id, owned=False)

    def metric_history(self, run_id: str, name: str) -> list[tuple[int, float]]:
        """The points (step, value) of a run's metric in the order in which they were logged; none where it has none."""
        try:
            points = self.client.get_metric_history(run_id, name)
        except MlflowException:  # the run was deleted
            return []
        return [(int(point.step), float(point.value)) for point in sorted(points, key=lambda each: each.timestamp)]

    @property
    def ui_command(self) -> str:
        """The shell command that opens MLflow's pages on these runs."""
        if urlsplit(self.uri).scheme in ("http", "https"):
            return f"open {self.shown_uri}"
        program = Path(sys.prefix) / "bin" / "mlflow"
        if program.is_relative_to(Path.cwd()):
            program = program.relative_to(Path.cwd())
        return f"{program} ui --backend-store-uri {self.shown_uri}"


def tracking_place(uri: str, variable: str | None) -> str:
    """The address as everybody may read it: the variable that holds it, as a shell takes it, or without a password."""
    return f"${variable}" if variable is not None else covered(uri)


@cache
def code_tags() -> dict[str, str]:
    """The git revision of the code, where it runs from a checkout; `-dirty` where that was changed."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return {}
    command = ["git", "-C", str(package.parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"]
    try:
        revision = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git_revision": revision} if revision else {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _key(name: str) -> str:
    """The name with what MLflow does not allow in it replaced."""
    return re.sub(r"[^\w./: -]", "_", str(name))[:MAX_ENTITY_KEY_LENGTH]


def _cut(value: Any, limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _batches(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
