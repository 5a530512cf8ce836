"""Adam that touches only the rows that had a gradient (lazy Adam)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class RowAdam:
    """Adam for tables whose sparse gradients name distinct rows; rows without a gradient rest, moments and all.

    Dense Adam reads and writes table, moments and gradient at every step, and processes would exchange the whole
    gradient: here both follow the batch, not the catalogue. The moments, twice the tables in the end, take memory on
    the CPU only as rows are touched.
    """

    def __init__(self, tables: Sequence[nn.Parameter], weight_decay: float) -> None:
        self.tables = list(tables)
        self.weight_decay = weight_decay
        self.beta1, self.beta2, self.eps = 0.9, 0.999, 1e-8
        self.steps = 0
        self.means = [zeros_by_touch(table) for table in self.tables]
        self.squares = [zeros_by_touch(table) for table in self.tables]

    def tensors(self) -> dict[str, Tensor]:
        """The moments by name, to be saved or filled."""
        named = {f"mean.{index}": mean for index, mean in enumerate(self.means)}
        return named | {f"square.{index}": square for index, square in enumerate(self.squares)}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update from the tables' sparse gradients."""
        self.steps += 1
        mean_scale = learning_rate / (1.0 - self.beta1**self.steps)
        square_scale = (1.0 - self.beta2**self.steps) ** -0.5
        for table, mean, square in zip(self.tables, self.means, self.squares, strict=True):
            if table.grad is None:
                continue
            rows, gradient = table.grad._indices()[0], table.grad._values()
            row_mean = mean.index_select(0, rows).lerp_(gradient, 1.0 - self.beta1)
            row_square = (
                square.index_select(0, rows).mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            )
            mean.index_copy_(0, rows, row_mean)
            square.index_copy_(0, rows, row_square)
            values = table.index_select(0, rows)
            if self.weight_decay:
                values.mul_(1.0 - learning_rate * self.weight_decay)
            values.addcdiv_(row_mean, row_square.sqrt_().mul_(square_scale).add_(self.eps), value=-mean_scale)
            table.index_copy_(0, rows, values)


def zeros_by_touch(like: Tensor) -> Tensor:
    """Zeros of the shape and type; on the CPU the operating system gives their memory as it is written to."""
    if like.device.type != "cpu":
        return torch.zeros_like(like)
    return torch.from_numpy(np.zeros(tuple(like.shape), dtype=str(like.dtype).removeprefix("torch.")))
