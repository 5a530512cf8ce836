"""Checkpoints that are whole or not there: safetensors and JSON, checked by sha256, renamed into place.

A checkpoint is the directory `epoch-<n>` after n whole epochs, or `epoch-<n>+<s>` after s further steps. It is written
under another name, flushed to disk and renamed. Every draw of the training is a function of (seed, epoch, step, lane or
rank), so the place is the random state and the position in the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from recsys_spark.json_files import read_object
from recsys_spark.recommenders.bundle import file_sha256
from recsys_spark.training.tensor_file import read_into, write_tensors

TENSORS, STATE = "tensors.safetensors", "state.json"
PREFIX, PARTIAL = "epoch-", ".partial-"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after some epochs and steps; the tensors stay in the file until they are asked for."""

    path: Path
    state: dict[str, Any]
    """`epoch` (whole ones), `step` (of the next one), `steps`, `fingerprint`, `history`, ...: plain JSON."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """`model.*` and `optimiser.*`, mapped from the file."""
        return load_file(self.path / TENSORS)

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors below `name.`, without that prefix."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def fill(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Read the tensors below `name.` into these. Raises ValueError where one is missing or of another shape."""
        read_into(self.path / TENSORS, {f"{name}.{key}": tensor for key, tensor in tensors.items()})


def checkpoint_path(directory: Path, epoch: int, step: int = 0) -> Path:
    """Where the checkpoint after so many epochs, and steps of the next one, stands."""
    return directory / (f"{PREFIX}{epoch:04d}" + (f"+{step:08d}" if step else ""))


def save_checkpoint(directory: Path, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write the checkpoint of the place in `state` so that it is there whole, or not at all."""
    final = checkpoint_path(directory, int(state["epoch"]), int(state.get("step", 0)))
    partial = directory / f"{PARTIAL}{final.name}-{uuid.uuid4().hex}"
    partial.mkdir(parents=True)
    sealed = {**state, "sha256": {TENSORS: write_tensors(partial / TENSORS, tensors)}}
    body = json.dumps(sealed, sort_keys=True)
    text = json.dumps({"state": sealed, "sha256": hashlib.sha256(body.encode()).hexdigest()})
    (partial / STATE).write_text(text, encoding="utf-8")
    for path in (partial / STATE, partial):
        _flush(path)
    if final.exists():  # damaged, or of another training: this place would not be written again otherwise
        final.rename(partial.with_name(f"{partial.name}.old"))
    partial.rename(final)
    _flush(directory)
    return final


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, or None where it is missing, half-written or changed."""
    try:
        sealed = read_object(path / STATE)
        state = sealed["state"]
        body = json.dumps(state, sort_keys=True)
        whole = hashlib.sha256(body.encode()).hexdigest() == sealed["sha256"]
        if not whole or file_sha256(path / TENSORS) != state["sha256"][TENSORS]:
            return None
        return Checkpoint(path, state)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def latest_checkpoint(directory: Path, wanted: Mapping[str, Any]) -> Checkpoint | None:
    """The newest whole checkpoint whose state has the wanted values; those of other trainings are passed over."""
    for path in sorted(directory.glob(f"{PREFIX}*"), reverse=True):
        checkpoint = load_checkpoint(path)
        if checkpoint is not None and all(checkpoint.state.get(key) == value for key, value in wanted.items()):
            return checkpoint
    return None


def prune_checkpoints(directory: Path, keep: set[Path]) -> None:
    """Remove the other checkpoints, and what was left half-written."""
    for path in (*directory.glob(f"{PREFIX}*"), *directory.glob(f"{PARTIAL}*")):
        if path not in keep:
            with suppress(OSError):  # its state goes first, so that a half-removed one is none
                (path / STATE).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
