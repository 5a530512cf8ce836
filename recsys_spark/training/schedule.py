"""The learning rate of a step."""

from __future__ import annotations

import math

from recsys_spark.training.spec import TrainSpec


def learning_rate(spec: TrainSpec, step: int, steps_an_epoch: int) -> float:
    """The rate of the step after `step` others: it rises over `warmup_steps`, then follows the schedule.

    Down to zero means that the step after the last one would have the rate 0.
    """
    rising = min(1.0, (step + 1) / max(1, spec.warmup_steps))
    if spec.schedule == "constant":
        return spec.learning_rate * rising
    warmup = spec.warmup_steps
    steps = (spec.schedule_epochs or spec.epochs) * steps_an_epoch
    gone = min(1.0, max(0, step - warmup) / max(1, steps - warmup))
    left = 1.0 - gone if spec.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * gone))
    return spec.learning_rate * rising * max(left, 1e-6)
