"""What losses ask of a scorer, and what a loss is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from recsys_spark.models.step import Negatives


class Scorer(Protocol):
    """A scorer, as `models.scorers` describes it."""

    factorises: bool
    user_side: Callable[..., Any]
    item_side: Callable[..., Any]
    matrix: Callable[..., Any]
    pairs: Callable[..., Any]


Loss = Callable[[Scorer, Tensor, Tensor, Tensor, Tensor, Negatives], Tensor]
"""(scorer, users [P, D], vectors [R, D], biases [R], target rows [P], negatives) -> sum of losses over positions."""
