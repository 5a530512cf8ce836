"""Bundles: fitted recommenders on disk, without pickle, every file checked by its hash when loaded.

A bundle is a directory with `config.json`, `tensors.safetensors`, `vocabulary.parquet` and `manifest.json`, which holds
the sha256 of each other file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys_spark.errors import UserError
from recsys_spark.json_files import read_object

CONFIG, TENSORS, VOCABULARY, MANIFEST = "config.json", "tensors.safetensors", "vocabulary.parquet", "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: configuration and memory-mapped tensors."""

    path: Path
    config: Mapping[str, Any]
    """Holds `kind`, `name`, `num_items` and what the recommender's class wrote."""
    tensors: Mapping[str, Tensor]
    """Tensors by name, mapped from the file: do not write into them."""

    @property
    def vocabulary(self) -> Path:
        """Parquet file with a row an item, ordered by code: code int, item_index int, item_id string, title string."""
        return self.path / VOCABULARY


def write_bundle(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], vocabulary: Path) -> None:
    """Write a bundle into the new directory `path`. The manifest comes last: without it nothing loads."""
    path.mkdir(parents=True)
    (path / CONFIG).write_text(json.dumps({"format": FORMAT, **config}, indent=1, sort_keys=True), encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / TENSORS)
    shutil.copyfile(vocabulary, path / VOCABULARY)
    files = {name: file_sha256(path / name) for name in (CONFIG, TENSORS, VOCABULARY)}
    (path / MANIFEST).write_text(json.dumps({"files": files}, indent=1, sort_keys=True), encoding="utf-8")


def read_bundle(path: Path) -> Bundle:
    """Load the bundle at `path`.

    Raises UserError where a file is missing, extra or changed since it was written.
    """
    verify_bundle(path)
    try:
        config = read_object(path / CONFIG)
    except (OSError, ValueError):
        raise UserError(f"bundle {path}: {CONFIG} is not readable; fit the model again") from None
    if config.get("format") != FORMAT:
        raise UserError(f"bundle {path}: format {config.get('format')} is not {FORMAT}; fit the model again")
    try:
        with safe_open(path / TENSORS, framework="pt") as archive:
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"bundle {path}: {TENSORS} is not readable ({error}); fit the model again") from None
    return Bundle(path=path, config=config, tensors=tensors)


def verify_bundle(path: Path) -> None:
    """Check that the bundle's files are those of its manifest, by name and by sha256, and plain files all of them."""
    try:
        files = dict(read_object(path / MANIFEST)["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"bundle {path}: {MANIFEST} is missing or damaged; fit the model again") from None
    present = {child.name for child in path.iterdir()} - {MANIFEST}
    if present != set(files):
        raise UserError(f"bundle {path}: files {sorted(present ^ set(files))} do not match {MANIFEST}; fit it again")
    for name, expected in files.items():
        if not stat.S_ISREG((path / name).lstat().st_mode):  # a pipe would never end, a link leads elsewhere
            raise UserError(f"bundle {path}: {name} is no plain file; fit the model again")
        if file_sha256(path / name) != expected:
            raise UserError(f"bundle {path}: {name} changed since it was written; fit the model again")


def bundle_id(path: Path) -> str:
    """The sha256 of the manifest: one name for the bundle's whole content."""
    return file_sha256(path / MANIFEST)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
