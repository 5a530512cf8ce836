"""Local steps, with two processes played by two objects."""

from __future__ import annotations

import threading

import pytest
import torch

from recsys_spark.training.optimiser import Optimiser
from recsys_spark.training.outer import LocalSteps
from recsys_spark.training.processes import Processes


class Model(torch.nn.Module):
    """A table with sparse gradients and a dense vector."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(6, 2))
        self.dense = torch.nn.Parameter(torch.zeros(2))

    def sparse_tables(self):
        return [self.table]


class Pair(Processes):
    """Two threads that sum what they bring."""

    barrier = threading.Barrier(2)
    brought = ()

    def sum_(self, tensors):
        if self.size == 1:
            return
        Pair.barrier.wait()
        if self.rank == 0:
            Pair.brought = []
        Pair.barrier.wait()
        Pair.brought.append([tensor.clone() for tensor in tensors])
        Pair.barrier.wait()
        for index, tensor in enumerate(tensors):
            tensor.copy_(Pair.brought[0][index] + Pair.brought[1][index])
        Pair.barrier.wait()


def run(make_spec, steps, gradient, **changes):
    """Both processes' models after `steps` local steps and an average; `gradient(rank, step)` gives (rows, value)."""
    spec = make_spec(sync="local", warmup_steps=0, learning_rate=0.1, grad_clip=1e9, **changes)
    models = [Model(), Model()]

    def process(rank):
        pair, model = Pair(rank, 2), models[rank]
        optimiser = LocalSteps(Optimiser(model, spec, pair.alone(), lambda _: 0.1), [], spec, pair)
        for step in range(steps):
            rows, value = gradient(rank, step)
            optimiser.zero_grad()
            model.dense.grad = torch.full((2,), value)
            values = torch.full((len(rows), 2), value)
            model.table.grad = torch.sparse_coo_tensor(torch.tensor([rows]), values, (6, 2))
            optimiser.step(torch.tensor([1.0, 1.0]))
        optimiser.synchronise()
        assert optimiser.in_step

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return models


def test_after_an_average_all_processes_are_equal_and_untouched_rows_rest(make_spec):
    rows = {0: [0, 1], 1: [1, 2]}
    one, two = run(make_spec, 5, lambda rank, step: (rows[rank], 1.0), local_steps=2, outer_momentum=0.5)
    assert torch.equal(one.table, two.table)
    assert torch.equal(one.dense, two.dense)
    assert one.table[3:].eq(0).all()
    assert one.table[:3].lt(0).all()


@pytest.mark.parametrize("rows", [{0: [0], 1: [0]}, {0: [0], 1: [1]}], ids=["both", "each its own"])
def test_a_row_is_averaged_over_the_processes_that_touched_it(make_spec, rows):
    """Adam's first steps of a constant gradient are of the learning rate, whoever takes them."""
    one, _ = run(make_spec, 2, lambda rank, step: (rows[rank], 1.0), local_steps=2, outer_momentum=0.0)
    touched = one.table[sorted({row for each in rows.values() for row in each})]
    torch.testing.assert_close(touched, torch.full_like(touched, -0.2))
    torch.testing.assert_close(one.dense, torch.full((2,), -0.2))


def test_the_outer_momentum_carries_the_change_of_the_last_average_on(make_spec):
    """SlowMo: u1 = 0.2 / g, x1 = -0.2; u2 = u1 / 2 + 0.2 / g, x2 = x1 - 0.1 - 0.2."""
    one, _ = run(make_spec, 4, lambda rank, step: ([4], 1.0), local_steps=2, outer_momentum=0.5)
    torch.testing.assert_close(one.dense, torch.full((2,), -0.5))
    torch.testing.assert_close(one.table[4], torch.full((2,), -0.5))
