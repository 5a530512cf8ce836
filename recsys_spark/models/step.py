"""What one training step is computed from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Negatives:
    """Items that a loss takes as not chosen: rows of the step, and the logarithm of how many items each speaks for."""

    rows: Tensor
    """[N] distinct rows shared by all positions, or [P, K] rows of each position."""
    log_weight: Tensor
    """The shape of `rows`: added to the scores, it corrects for how often each item is drawn."""
    target_log_weight_P: Tensor | None = None
    """[P] the same for the targets, where the loss corrects them too (bce)."""


@dataclass(frozen=True)
class Step:
    """A batch of sequences with its distinct items numbered, so that each is encoded once."""

    tokens_R: Tensor
    """[R] int64 distinct tokens in rising order, row 0 being the padding token 0."""
    inputs_BL: Tensor
    """[B, L] int64 rows of the items read, 0 at padding."""
    positions_P: Tensor
    """[P] int64 real positions as indices into B * L."""
    targets_P: Tensor
    """[P] int64 rows of the next item at each real position."""
    negatives: Negatives
    """What the loss contrasts the targets with."""
