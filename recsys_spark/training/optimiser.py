"""The optimiser of a model whose item tables have sparse gradients: clipping, warm-up, and its state as tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys_spark.training.processes import Processes
from recsys_spark.training.row_adam import RowAdam
from recsys_spark.training.spec import TrainSpec


class Optimiser:
    """Row-wise Adam for the item tables, fused AdamW for everything else, one clipped gradient norm over both."""

    def __init__(self, model: nn.Module, spec: TrainSpec, processes: Processes) -> None:
        tables = [*model.item_encoder.parameters(), *model.item_bias.parameters()]
        table_ids = {id(table) for table in tables}
        self.dense = [parameter for parameter in model.parameters() if id(parameter) not in table_ids]
        self.rows = RowAdam(tables, spec.weight_decay)
        self.adam = (
            torch.optim.AdamW(self.dense, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)
            if self.dense
            else None
        )
        self._spec = spec
        self._processes = processes
        # The state exists from the start, so that a checkpoint can be filled into it.
        self._states = [_fresh_state(parameter) for parameter in self.dense]
        if self.adam is not None:
            self.adam.state.update(zip(self.dense, self._states, strict=True))

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self.rows.steps

    def tensors(self) -> dict[str, Tensor]:
        """The state by name (live tensors): copy from them to save, into them to restore."""
        named = {f"rows.{name}": tensor for name, tensor in self.rows.tensors().items()}
        for index, state in enumerate(self._states):
            for name, tensor in state.items():
                named[f"dense.{index}.{name}"] = tensor
        return named

    def restore(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Fill the state from a checkpoint's tensors."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self.rows.steps = steps

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in (*self.dense, *self.rows.tables):
            parameter.grad = None

    @torch.no_grad()
    def step(self, totals: Tensor) -> Tensor:
        """Take a step from the gradients of this process's summed loss.

        `totals` is [summed loss, positions] of this process; returned summed over processes. The gradients are summed
        in the same exchange and divided by all positions, so that any number of processes takes the same step.
        """
        gradients = [table.grad._values() for table in self.rows.tables if table.grad is not None]
        gradients += [parameter.grad for parameter in self.dense if parameter.grad is not None]
        totals = totals.to(torch.float32)
        self._processes.sum_([*gradients, totals])
        positions = totals[1].clamp(min=1.0)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) / positions
        torch._foreach_mul_(gradients, (self._spec.grad_clip / (norm + 1e-6)).clamp(max=1.0) / positions)
        learning_rate = self._spec.learning_rate * min(1.0, (self.steps + 1) / max(1, self._spec.warmup_steps))
        self.rows.step(learning_rate)
        if self.adam is not None:
            self.adam.param_groups[0]["lr"] = learning_rate
            self.adam.step()
        return totals


def _fresh_state(parameter: nn.Parameter) -> dict[str, Tensor]:
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }
