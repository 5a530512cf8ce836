"""When checkpoints are written, and which are kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from recsys_spark.training.checkpoint import checkpoint_path, prune_checkpoints, save_checkpoint

MOST_SHARE = 0.05
"""Checkpoints within an epoch take at most about this share of the time."""


class Keeper:
    """Writes the checkpoints of a training: rank 0's."""

    def __init__(self, work: Path, every_seconds: float) -> None:
        self._work = work
        self._every_seconds = every_seconds
        self._last = time.perf_counter()
        self._cost = 0.0

    def due(self) -> bool:
        """Is it time for a checkpoint within an epoch."""
        return time.perf_counter() - self._last > max(self._every_seconds, self._cost / MOST_SHARE)

    def save(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor], best_epoch: int) -> float:
        """Write a checkpoint and remove all others but the best epoch's; returns the seconds it took."""
        started = time.perf_counter()
        path = save_checkpoint(self._work, state, tensors)
        prune_checkpoints(self._work, keep={path, checkpoint_path(self._work, best_epoch)})
        self._last = time.perf_counter()
        self._cost = self._last - started
        return self._cost
