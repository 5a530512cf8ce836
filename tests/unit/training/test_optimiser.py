from __future__ import annotations

import torch

from recsys_spark.training.row_adam import RowAdam


def test_with_every_row_in_every_step_it_is_adam():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, 3, generator=generator)
    dense, table = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    adam, rows = torch.optim.Adam([dense], lr=0.01), RowAdam([table], weight_decay=0.0)
    for _ in range(4):
        gradient = torch.randn(5, 3, generator=generator)
        dense.grad = gradient.clone()
        table.grad = torch.sparse_coo_tensor(torch.arange(5)[None], gradient, (5, 3))
        adam.step()
        rows.step(0.01)
    torch.testing.assert_close(table, dense)


def test_rows_without_a_gradient_rest():
    table = torch.nn.Parameter(torch.ones(4, 2))
    rows = RowAdam([table], weight_decay=0.1)
    table.grad = torch.sparse_coo_tensor(torch.tensor([[2]]), torch.ones(1, 2), (4, 2))
    rows.step(0.5)
    assert table[[0, 1, 3]].eq(1.0).all()
    torch.testing.assert_close(table[2], torch.full((2,), 1.0 * (1 - 0.05) - 0.5), atol=1e-5, rtol=0)
