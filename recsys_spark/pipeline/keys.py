"""The key of a stage: a hash of everything that its outputs are made from, never of the outputs."""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
import importlib.resources
import json
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from recsys_spark.config import Config
from recsys_spark.config.sources import Files

LOCKED = ("lightgbm", "numpy", "petastorm", "pyarrow", "pyspark", "scipy", "torch")
"""Libraries whose version can change a result."""


def stage_key(
    stage: str,
    config: Config,
    config_keys: Sequence[str],
    inputs: Mapping[str, str],
    as_of: str | None,
    sources: Any,
    follows: Any = None,
) -> str:
    """sha256 over the stage's name, its slice of the configuration, upstream keys, date, files, code and libraries.

    `follows` is what it depends on besides, such as who is champion.
    """
    content = {
        "stage": stage,
        "config": {key: config_value(config, key) for key in config_keys},
        "inputs": dict(inputs),
        "as_of": as_of,
        "sources": sources,
        "follows": follows,
        "code": code_version(),
        "libraries": library_versions(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def config_value(config: Config, key: str) -> Any:
    """The value of a dotted key, as JSON."""
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def source_manifest(config: Config) -> list[Any]:
    """What the files are that the source, the catalogue and the demographics name."""
    inputs: list[Files] = [file for source in config.source for file in (source, *source.join)]
    inputs += [each for each in (config.catalog, config.demographics) if each is not None]
    listed = [config.cleaning.blocked_items_file, config.features.tokenizer]
    return files_manifest(inputs) + [entry for path in listed if path for entry in _entries("csv", path)]


def files_manifest(inputs: Sequence[Files]) -> list[Any]:
    """Path, size and time of every file; a table's content cannot be told: a nonce."""
    return [entry for files in inputs for path in files.paths for entry in _entries(files.format, path)]


def paths_manifest(paths: Sequence[str]) -> list[Any]:
    """The same of single files."""
    return [entry for path in paths for entry in _entries("csv", path)]


def _entries(format_: str, path: str) -> list[Any]:
    unknown = [[path, uuid.uuid4().hex]]  # what cannot be told counts as changed
    if format_ == "package":
        package, _, name = path.partition("/")
        try:
            file = importlib.resources.files(package) / name
            return [[path, hashlib.sha256(file.read_bytes()).hexdigest()]]
        except (ModuleNotFoundError, OSError):
            return unknown
    if format_ in ("table", "jdbc") or (":" in path and not path.startswith("file:")):
        return unknown
    found = sorted(glob.glob(path.removeprefix("file://").removeprefix("file:"), recursive=True))
    files = [
        file for name in found for file in ([Path(name)] if Path(name).is_file() else sorted(Path(name).rglob("*")))
    ]
    # Spark's globs know more than ours, such as {a,b}: where ours find nothing, or may find other files, do not guess.
    entries = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
    return unknown if not entries or "{" in path or "[^" in path else entries


@cache
def code_version() -> str:
    """sha256 over the package's own source files, also where it runs from a zip."""
    digest = hashlib.sha256()
    for name, content in sorted(_sources(importlib.resources.files("recsys_spark"), "")):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


def _sources(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for child in folder.iterdir():
        name = f"{prefix}/{child.name}"
        if child.is_dir():
            found += _sources(child, name)
        elif child.name.endswith(".py"):
            found.append((name, child.read_bytes()))
    return found


@cache
def library_versions() -> dict[str, str]:
    """Installed version of each library that can change a result."""
    return {name: importlib.metadata.version(name) for name in LOCKED}
