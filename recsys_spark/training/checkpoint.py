"""Checkpoints that are whole or not there: safetensors and JSON, checked by sha256, renamed into place.

A checkpoint is the directory `epoch-<n>`, written under another name, flushed to disk and renamed. Every draw of the
training is a function of (seed, epoch, step, rank), so the epoch is the random state and the position in the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys_spark.recommenders.bundle import file_sha256

TENSORS, STATE = "tensors.safetensors", "state.json"
PREFIX = "epoch-"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after a whole number of epochs."""

    state: dict[str, Any]
    """`epoch`, `steps`, `fingerprint`, `history`: plain JSON."""
    tensors: dict[str, Tensor]
    """`model.*` and `optimiser.*`."""

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors below `name.`, without that prefix."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def checkpoint_path(directory: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch stands."""
    return directory / f"{PREFIX}{epoch:04d}"


def save_checkpoint(directory: Path, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write the checkpoint of `state["epoch"]` so that it is there whole, or not at all."""
    final = checkpoint_path(directory, int(state["epoch"]))
    partial = directory / f".partial-{final.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, partial / TENSORS)
    sealed = {**state, "sha256": {TENSORS: file_sha256(partial / TENSORS)}}
    body = json.dumps(sealed, sort_keys=True)
    (partial / STATE).write_text(
        json.dumps({"state": sealed, "sha256": hashlib.sha256(body.encode()).hexdigest()}), encoding="utf-8"
    )
    for path in (partial / TENSORS, partial / STATE, partial):
        _flush(path)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _flush(directory)
    return final


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, or None where it is missing, half-written or changed."""
    try:
        sealed = json.loads((path / STATE).read_text(encoding="utf-8"))
        state = sealed["state"]
        body = json.dumps(state, sort_keys=True)
        if hashlib.sha256(body.encode()).hexdigest() != sealed["sha256"]:
            return None
        if file_sha256(path / TENSORS) != state["sha256"][TENSORS]:
            return None
        return Checkpoint(state=state, tensors=load_file(path / TENSORS))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def latest_checkpoint(directory: Path, fingerprint: str) -> Checkpoint | None:
    """The newest whole checkpoint of this training; those of another one, and damaged ones, are passed over."""
    for path in sorted(directory.glob(f"{PREFIX}*"), reverse=True):
        checkpoint = load_checkpoint(path)
        if checkpoint is not None and checkpoint.state.get("fingerprint") == fingerprint:
            return checkpoint
    return None


def prune_checkpoints(directory: Path, keep: set[int]) -> None:
    """Remove the checkpoints of other epochs, and what was left half-written."""
    kept = {checkpoint_path(directory, epoch).name for epoch in keep}
    for path in (*directory.glob(f"{PREFIX}*"), *directory.glob(".partial-*")):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
