"""The average of the parameters along the way, which ranks better than where the last steps happened to end.

Polyak's averaging with exponential weights: the average moves towards the parameters by 1 - d, d = exp(-1 / n) for n
averages within `average_epochs`, and less at first (d <= (1 + m) / (10 + m) at the m-th), so that the start is
forgotten. Averages are taken a few times an epoch: each reads every parameter, item tables whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from recsys_spark.models.composed import ComposedModel

AVERAGES_AN_EPOCH = 16


class Averages:
    """The average beside the parameters that are trained; nothing at all where `epochs` is 0."""

    def __init__(self, model: ComposedModel, epochs: float, steps_an_epoch: int) -> None:
        self._parameters = model.averaged_parameters()
        self._interval = max(1, steps_an_epoch // AVERAGES_AN_EPOCH)
        self._decay = math.exp(-self._interval / (epochs * steps_an_epoch)) if epochs else 0.0
        self._taken = torch.zeros((), dtype=torch.int64)
        self._averages: dict[str, Tensor] = {}

    def take(self, steps: int) -> None:
        """After a step at which all processes have the same parameters: take part in the average where it is time."""
        if not self._decay or steps // self._interval <= int(self._taken):
            return
        averages = self._all()
        taken = steps // self._interval
        # The first one starts the average, whenever its memory was asked for (a checkpoint may have come before).
        decay = min(self._decay, taken / (9.0 + taken)) if int(self._taken) else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(list(averages.values()), [*self._parameters.values()], 1.0 - decay)
        self._taken.fill_(taken)

    def tensors(self) -> dict[str, Tensor]:
        """The state by name (live tensors), to be saved or filled; empty where nothing is averaged."""
        return {**self._all(), "taken": self._taken} if self._decay else {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model's parameters are the averages."""
        if not self._decay:
            yield
            return
        own = {name: parameter.data for name, parameter in self._parameters.items()}
        for name, average in self._all().items():
            self._parameters[name].data = average
        try:
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = own[name]

    def _all(self) -> dict[str, Tensor]:
        """The averages, which begin at the parameters as they are when they are first asked for."""
        if not self._averages:
            self._averages = {name: value.detach().clone() for name, value in self._parameters.items()}
        return self._averages
