"""What made a row: from the run that it names to models, versions of tables, configuration, code and libraries."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mlflow.artifacts
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys_spark.errors import UserError
from recsys_spark.pipeline.provenance import FILE
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import Registered, aliased, registered
from recsys_spark.tracking.runs import Tracker

FUSED, PUBLISHING, PARTS = "recsys-fused", "fuse_recommendations", "train_models."
ALIASES = ("champion", "challenger")
TAGS = ("data_version", "id_map_version", "split_version", "code_version", "git_revision")


def lineage(workspace: Workspace, tracker: Tracker, run_id: str) -> dict[str, Any]:
    """What the kept version that a run made, or whose rows name it, was made from; as plain JSON values.

    The id of a whole run of the pipeline stands for its published lists. Raises UserError for a run of no kept version.
    """
    commit = _made_by(workspace, {run_id}) or _made_by(workspace, _children(tracker, run_id))
    if commit is None:
        raise UserError(
            f"run {run_id}: no kept version in {workspace.root} was made by it; versions older than "
            "tables.keep_versions are removed unless an alias or another version needs them"
        )
    found: dict[str, Any] = {
        "run_id": run_id,
        **_version(commit),
        "made_with": _made_with(tracker, commit.facts.get("lists_run_id", commit.run_id)),
    }
    model = _model_of(tracker, commit)
    if model is not None:
        found["model"] = _model(workspace, tracker, model)
    found["inputs"] = _inputs(workspace, commit.inputs)
    return found


def _made_by(workspace: Workspace, runs: set[str]) -> Commit | None:
    """The newest version that one of the runs made: of the published lists, else of the stage with most inputs."""
    made = [
        commit
        for folder in sorted((workspace.root / "stages").glob("*"))
        for commit in workspace.history(folder.name)
        if commit.run_id in runs or commit.facts.get("lists_run_id") in runs
    ]
    made.sort(
        key=lambda commit: (commit.stage == PUBLISHING, commit.run_id in runs, len(commit.inputs), commit.version)
    )
    return made[-1] if made else None


def _children(tracker: Tracker, run_id: str) -> set[str]:
    """The runs below a run of the pipeline."""
    if not run_id.isalnum():
        return set()
    runs = tracker.client.search_runs([tracker.experiment_id], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'")
    return {run.info.run_id for run in runs}


def _version(commit: Commit) -> dict[str, Any]:
    return {
        "stage": commit.stage,
        "version": commit.version,
        "made_by": commit.run_id,
        "as_of": commit.as_of,
        "key": commit.key,
        "directory": commit.directory,
        "tables": {name: {"rows": rows, "path": str(commit.path(name))} for name, rows in commit.tables.items()},
    }


def _inputs(workspace: Workspace, versions: Mapping[str, int]) -> dict[str, Any]:
    """Every version that these were made from, and they themselves, by `<stage>/<version>`."""
    found: dict[str, Any] = {}
    waiting = list(versions.items())
    while waiting:
        stage, version = waiting.pop(0)
        name = f"{stage}/{version}"
        if name in found:
            continue
        try:
            commit = workspace.version(stage, version)
        except UserError:
            found[name] = {"stage": stage, "version": version, "removed": True}
            continue
        found[name] = _version(commit)
        waiting += commit.inputs.items()
    return found


def _made_with(tracker: Tracker, run_id: str) -> dict[str, Any]:
    """Configuration, code and libraries of a run; nothing where MLflow has forgotten it."""
    try:
        tags = tracker.client.get_run(run_id).data.tags
        with tempfile.TemporaryDirectory() as scratch:
            path = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=FILE, dst_path=scratch, tracking_uri=tracker.uri
            )
            content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (MlflowException, OSError, ValueError):
        return {}
    return {**content, **({"git_revision": tags["git_revision"]} if "git_revision" in tags else {})}


def _model_of(tracker: Tracker, commit: Commit) -> Registered | None:
    """The registered model that a version published the lists of, or that it is."""
    if commit.stage == PUBLISHING:
        version = commit.facts.get("served_version") or commit.facts.get("registered_version")
        return registered(tracker, FUSED, str(version)) if version else None
    if commit.stage.startswith(PARTS) and "registered_version" in commit.facts:
        return registered(tracker, f"recsys-{commit.stage.removeprefix(PARTS)}", commit.facts["registered_version"])
    return None


def _model(workspace: Workspace, tracker: Tracker, model: Registered) -> dict[str, Any]:
    components = {}
    for name, version in model.parts.items():
        try:
            commit = workspace.version(f"{PARTS}{name}", version)
        except UserError:
            components[f"recsys-{name}"] = {"stage": f"{PARTS}{name}/{version}", "removed": True}
            continue
        told = {"version": commit.facts.get("registered_version"), "stage": f"{PARTS}{name}/{version}"}
        components[f"recsys-{name}"] = {**told, "made_by": commit.run_id, "directory": commit.directory}
    return {
        "name": model.name,
        "version": model.version,
        "content": model.content,
        "aliases": [alias for alias in ALIASES if _is(aliased(tracker, model.name, alias), model)],
        "made_by": model.run_id,
        **{name: model.tags[name] for name in TAGS if name in model.tags},
        "components": components,
        "made_from": _inputs(workspace, model.pins),
        "made_with": _made_with(tracker, model.run_id),
    }


def _is(one: Registered | None, other: Registered) -> bool:
    return one is not None and one.version == other.version


Tree = tuple[str, list[Any]]
"""A line, and the trees below it."""


def tree(found: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The lineage for people. Of the configuration what differs from `defaults` is shown."""
    below: list[Tree] = [_stage(found)]
    model = found.get("model")
    if model:
        aliases = f", {' and '.join(model['aliases'])}" if model["aliases"] else ""
        lines: list[Tree] = [(f"content {model['content']}", []), (f"run {model['made_by']}", [])]
        lines += [(f"{name} {model[name]}", []) for name in TAGS if name in model]
        lines += [(_component(name, told), []) for name, told in model["components"].items()]
        lines.append(("made from", [_stage(each) for each in model["made_from"].values()]))
        if model["made_with"] and model["made_with"] != found["made_with"]:
            lines += _made_with_lines(model["made_with"], defaults)
        below.append((f"model {model['name']}/{model['version']}{aliases}", lines))
    below.append(("made from", [_stage(each) for each in found["inputs"].values()]))
    below += _made_with_lines(found["made_with"], defaults)
    return "\n".join(_drawn((f"run {found['run_id']}", below)))


def _stage(version: Mapping[str, Any]) -> Tree:
    name = f"{version['stage']} version {version['version']}"
    if version.get("removed"):
        return (f"{name} (removed)", [])
    until = f", events before {version['as_of']}" if version["as_of"] else ""
    tables: list[Tree] = [
        (f"{table}: {told['rows']} rows, {told['path']}", []) for table, told in version["tables"].items()
    ]
    return (f"{name}, run {version['made_by']}{until}", tables or [(version["directory"], [])])


def _component(name: str, told: Mapping[str, Any]) -> str:
    if told.get("removed"):
        return f"component {name}: {told['stage']} (removed)"
    return f"component {name}/{told['version']}: {told['stage']}, run {told['made_by']}"


def _made_with_lines(made_with: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Tree]:
    if not made_with:
        return [("configuration, code and libraries: not kept by MLflow", [])]
    usual = dict(_flat(defaults))
    changed: list[Tree] = [
        (f"{key}: {value}", []) for key, value in _flat(made_with["config"]) if usual.get(key) != value
    ]
    git = f", git {made_with['git_revision']}" if "git_revision" in made_with else ""
    libraries = ", ".join(f"{name} {version}" for name, version in made_with["libraries"].items())
    return [
        (f"code {made_with['code_version'][:16]}{git}, Python {made_with['python']}", []),
        (f"libraries: {libraries}", []),
        ("configuration, where it is not the default", changed),
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, sort_keys=True)


def _drawn(node: Tree) -> list[str]:
    lines = [node[0]]
    for place, child in enumerate(node[1]):
        last = place == len(node[1]) - 1
        first, *rest = _drawn(child)
        lines.append(f"{'└─' if last else '├─'} {first}")
        lines += [f"{'   ' if last else '│  '}{line}" for line in rest]
    return lines
