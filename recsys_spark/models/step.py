"""What one training step is computed from."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from recsys_spark.models.packed import History, Rows


@dataclass(frozen=True)
class Negatives:
    """Items that a loss takes as not chosen: rows of the step, and the logarithm of how many items each speaks for."""

    rows: Tensor
    """[N] distinct rows shared by all positions, or [P, K] rows of each position."""
    log_weight: Tensor
    """The shape of `rows`: added to the scores, it corrects for how often each item is drawn."""
    target_log_weight_P: Tensor | None = None
    """[P] the same for the targets, where the loss corrects them too (bce, bpr)."""


@dataclass(frozen=True)
class Step:
    """A batch of packed histories with its distinct items numbered, so that each is encoded once.

    A history's events are read up to the last one that something comes after, so that every position has a target.
    """

    tokens_R: Tensor
    """[R] int64 distinct tokens in rising order, row 0 being the padding token 0; the same on every process."""
    inputs_P: Tensor
    """[P] int64 rows of the items read."""
    history: History
    """Where the histories stand, and what else is known of their events."""
    targets_P: Tensor
    """[P] int64 rows of the next item after each position."""
    negatives: Negatives
    """What the loss contrasts the targets with."""

    @property
    def positions(self) -> int:
        """Number of positions P."""
        return int(self.targets_P.numel())

    def to(self, device: torch.device) -> Step:
        """The step on a device."""
        return self if self.tokens_R.device == device else _moved(self, device)


Value = TypeVar("Value")


def _moved(value: Value, device: torch.device) -> Value:
    """A tensor, or a dataclass of tensors and such dataclasses, on a device."""
    if isinstance(value, Tensor | Rows):
        return value.to(device)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _moved(getattr(value, field.name), device) for field in fields(value)})
    return value
