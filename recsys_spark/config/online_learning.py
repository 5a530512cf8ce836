"""The configuration of online learning: what live events teach the item sides between two batches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recsys_spark.config.section import NotNegative, Positive, PositiveFloat, Section


class OnlineLearning(Section):
    """Steps on item biases and vectors, by each live target event; user encoders stay as they are."""

    enabled: bool = False
    """Learn. Off by default: docs/online.md says what a replay of the demo measured."""
    models: tuple[str, ...] | None = None
    """The recommenders that learn; by default all whose items have vectors: networks and als."""
    method: Literal["adagrad", "sgd"] = "adagrad"
    """How a gradient becomes a step: divided by the root of the squares that a row has seen so far, or as it is."""
    learning_rate: NotNegative = 0.05
    """Step of the items' vectors; 0 leaves them as they are."""
    bias_learning_rate: NotNegative = 0.05
    """Step of the items' biases; 0 leaves them as they are."""
    start_squares: PositiveFloat = 1.0
    """What adagrad's squares begin at: the larger, the shorter the first steps."""
    negatives: Annotated[int, Field(ge=2, le=100_000)] = 512
    """Sampled items that a step holds against its targets, half of them among what was bought since the publication."""
    step_events: Positive = 64
    """New events that a step learns from."""
    replay: NotNegative = 1.0
    """Earlier samples that a step learns from again, for each new one."""
    reservoir: Annotated[int, Field(ge=0, le=1_000_000)] = 2048
    """Samples that are kept for it, each with the user's vectors at the time."""
    max_change: PositiveFloat = 0.2
    """How far an item's vector may move from the champion's, as a share of its length."""
    max_bias_change: PositiveFloat = 1.0
    """How far an item's bias may move from the champion's: 0.7 doubles its odds."""
