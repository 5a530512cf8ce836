"""Local steps: processes step alone, and are averaged with an outer momentum now and then.

Post-local SGD (Lin et al. 2020) with SlowMo (Wang et al. 2020): with the parameters x before the local steps, their
mean y over processes after them and the learning rate g, the outer momentum is u <- beta u + (x - y) / g and the new
parameters are x - alpha g u. While the learning rate rises, processes are averaged at every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recsys_spark.training.optimiser import Optimiser
from recsys_spark.training.processes import Processes
from recsys_spark.training.row_adam import zeros_by_touch
from recsys_spark.training.spec import TrainSpec


class LocalSteps:
    """An optimiser that steps alone, and the averages over it.

    Adam's moments are averaged with the parameters, so that all processes have one state at an average. Of a sparse
    table only rows that were touched since the last one are exchanged, each averaged over the processes that touched
    it: a row that one process saw has moved as far as if it had been alone. Rows that nobody touched rest, outer
    momentum and all, as they do in RowAdam.
    """

    def __init__(self, inner: Optimiser, marks: Sequence[Tensor], spec: TrainSpec, processes: Processes) -> None:
        """`marks` are the model's boolean buffers: what any process marked is marked after an average."""
        self._inner = inner
        self._marks = list(marks)
        self._spec = spec
        self._processes = processes
        self._since = 0
        self._totals: Tensor | None = None
        self._dense_before = [parameter.detach().clone() for parameter in inner.dense]
        self._tables = [_Touched(table) for table in inner.rows.tables]
        slow = spec.outer_momentum > 0
        self._dense_momentum = [torch.zeros_like(parameter) for parameter in inner.dense] if slow else []
        self._row_momentum = [zeros_by_touch(table) for table in inner.rows.tables] if slow else []

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self._inner.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self._inner.steps = steps
        for before, parameter in zip(self._dense_before, self._inner.dense, strict=True):
            before.copy_(parameter.detach())

    @property
    def in_step(self) -> bool:
        """See Stepping."""
        return self._since == 0

    def tensors(self) -> dict[str, Tensor]:
        """See Stepping."""
        named = self._inner.tensors()
        named |= {f"outer.dense.{index}": momentum for index, momentum in enumerate(self._dense_momentum)}
        return named | {f"outer.rows.{index}": momentum for index, momentum in enumerate(self._row_momentum)}

    def zero_grad(self) -> None:
        """See Stepping."""
        self._inner.zero_grad()

    @torch.no_grad()
    def step(self, totals: Tensor) -> Tensor | None:
        """See Stepping."""
        for touched in self._tables:
            touched.remember()
        own = self._inner.step(totals)
        self._totals = own if self._totals is None else self._totals + own
        self._since += 1
        rising = self.steps <= self._spec.warmup_steps
        return self.synchronise() if rising or self._since >= self._spec.local_steps else None

    @torch.no_grad()
    def synchronise(self) -> Tensor | None:
        """See Stepping."""
        if self._totals is None:
            return None
        rows, adam = [touched.gather(self._processes) for touched in self._tables], self._inner.rows
        tables = list(zip(adam.tables, adam.means, adam.squares, strict=True))
        parts = [
            values.index_select(0, table_rows.all).mul_(table_rows.touched[:, None])
            for table_rows, of_table in zip(rows, tables, strict=True)
            for values in of_table
        ]
        dense = self._inner.averaged()
        totals, self._totals, self._since = self._totals, None, 0
        self._processes.sum_([*dense, *parts, totals])
        torch._foreach_div_(dense, float(self._processes.size))
        for index, (table_rows, of_table) in enumerate(zip(rows, tables, strict=True)):
            means = [part.div_(table_rows.count[:, None]) for part in parts[3 * index : 3 * index + 3]]
            means[0] = self._row_step(index, table_rows, means[0])
            for values, mean in zip(of_table, means, strict=True):
                values.index_copy_(0, table_rows.all, mean)
        self._dense_step()
        for marks in self._marks:
            counts = marks.to(torch.uint8)
            self._processes.sum_([counts])
            marks.copy_(counts > 0)
        return totals

    def _dense_step(self) -> None:
        for index, (before, parameter) in enumerate(zip(self._dense_before, self._inner.dense, strict=True)):
            if self._dense_momentum:
                momentum = self._dense_momentum[index]
                momentum.mul_(self._spec.outer_momentum).add_(before - parameter, alpha=1.0 / self._rate())
                parameter.copy_(before.sub_(momentum, alpha=self._spec.outer_learning_rate * self._rate()))
            else:
                parameter.copy_(torch.lerp(before, parameter, self._spec.outer_learning_rate))
            before.copy_(parameter)

    def _row_step(self, index: int, rows: _Rows, mean: Tensor) -> Tensor:
        if not self._row_momentum:
            return torch.lerp(rows.before, mean, self._spec.outer_learning_rate)
        momentum = self._row_momentum[index].index_select(0, rows.all).mul_(self._spec.outer_momentum)
        momentum.add_(rows.before - mean, alpha=1.0 / self._rate())
        self._row_momentum[index].index_copy_(0, rows.all, momentum)
        return rows.before.sub_(momentum, alpha=self._spec.outer_learning_rate * self._rate())

    def _rate(self) -> float:
        """The learning rate of the last step."""
        return self._inner.rate(self.steps - 1)


class _Rows:
    """Rows of a table that any process touched: which, by how many, by this one, and what they were before."""

    def __init__(self, all_: Tensor, count: Tensor, touched: Tensor, before: Tensor) -> None:
        self.all, self.count, self.touched, self.before = all_, count, touched, before


class _Touched:
    """The rows of a table that this process touched since the last average, with their values before."""

    def __init__(self, table: Tensor) -> None:
        self._table = table
        self._marks = torch.zeros(table.shape[0], dtype=torch.uint8, device=table.device)
        self._before: list[tuple[Tensor, Tensor]] = []

    def remember(self) -> None:
        """Keep the values of the rows that the coming step touches for the first time."""
        if self._table.grad is None:
            return
        rows = self._table.grad._indices()[0]
        new = rows[self._marks[rows] == 0]
        self._before.append((new, self._table.detach().index_select(0, new)))
        self._marks[rows] = 1

    def gather(self, processes: Processes) -> _Rows:
        """What all processes touched; forgets it."""
        counts = self._marks.clone()
        processes.sum_([counts])
        rows = counts.nonzero().squeeze(1)
        before = self._table.detach().index_select(0, rows)
        for own, values in self._before:
            before.index_copy_(0, torch.searchsorted(rows, own), values)
        touched = self._marks[rows].to(self._table.dtype)
        self._marks.zero_()
        self._before = []
        return _Rows(rows, counts[rows].to(self._table.dtype), touched, before)
