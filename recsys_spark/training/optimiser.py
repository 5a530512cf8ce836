"""The optimiser of a model whose tables have sparse gradients: clipping, schedule, and its state as tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from recsys_spark.models.composed import ComposedModel
from recsys_spark.training.processes import Processes
from recsys_spark.training.row_adam import RowAdam
from recsys_spark.training.spec import TrainSpec


class Stepping(Protocol):
    """What the training loop asks of an optimiser: one of every step's sums, or one of local steps."""

    steps: int
    """Steps taken."""

    @property
    def in_step(self) -> bool:
        """Have all processes the same parameters and state now: only then may a checkpoint be written."""

    def tensors(self) -> dict[str, Tensor]:
        """The state by name (live tensors): copy from them to save, into them to restore."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self, totals: Tensor) -> Tensor | None:
        """Take a step from this process's summed loss's gradients; `totals` [2] is its summed loss and positions.

        Returns the totals of all processes since the last time that they were exchanged, or None.
        """

    def synchronise(self) -> Tensor | None:
        """Bring all processes into step; returns as `step` does."""


class Optimiser:
    """Row-wise Adam for the sparse tables, fused AdamW for everything else, one clipped gradient norm over both."""

    in_step = True

    def __init__(
        self, model: ComposedModel, spec: TrainSpec, processes: Processes, rate: Callable[[int], float]
    ) -> None:
        tables = model.sparse_tables()
        table_ids = {id(table) for table in tables}
        self.dense = [parameter for parameter in model.parameters() if id(parameter) not in table_ids]
        self.rows = RowAdam(tables, spec.weight_decay)
        self.adam = (
            torch.optim.AdamW(self.dense, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)
            if self.dense
            else None
        )
        self.rate = rate
        self._grad_clip = spec.grad_clip
        self._processes = processes
        # The state exists from the start, so that a checkpoint can be filled into it.
        self._states = [_fresh_state(parameter) for parameter in self.dense]
        if self.adam is not None:
            self.adam.state.update(zip(self.dense, self._states, strict=True))

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self.rows.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self.rows.steps = steps

    def tensors(self) -> dict[str, Tensor]:
        """See Stepping."""
        named = {f"rows.{name}": tensor for name, tensor in self.rows.tensors().items()}
        for index, state in enumerate(self._states):
            for name, tensor in state.items():
                named[f"dense.{index}.{name}"] = tensor
        return named

    def zero_grad(self) -> None:
        """See Stepping."""
        for parameter in (*self.dense, *self.rows.tables):
            parameter.grad = None

    @torch.no_grad()
    def step(self, totals: Tensor) -> Tensor:
        """See Stepping.

        The gradients are summed in the same exchange as the totals and divided by all positions, so that any number of
        processes takes the same step.
        """
        gradients = [table.grad._values() for table in self.rows.tables if table.grad is not None]
        gradients += [parameter.grad for parameter in self.dense if parameter.grad is not None]
        totals = totals.to(torch.float32)
        self._processes.sum_([*gradients, totals])
        positions = totals[1].clamp(min=1.0)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) / positions
        torch._foreach_mul_(gradients, (self._grad_clip / (norm + 1e-6)).clamp(max=1.0) / positions)
        learning_rate = self.rate(self.steps)
        self.rows.step(learning_rate)
        if self.adam is not None:
            self.adam.param_groups[0]["lr"] = learning_rate
            self.adam.step()
        return totals

    def synchronise(self) -> None:
        """See Stepping: they always are."""

    def averaged(self) -> list[Tensor]:
        """Dense parameters and their moments: what local steps average whole."""
        moments = [state[name] for state in self._states for name in ("exp_avg", "exp_avg_sq")]
        return [*self.dense, *moments]


def _fresh_state(parameter: nn.Parameter) -> dict[str, Tensor]:
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }
