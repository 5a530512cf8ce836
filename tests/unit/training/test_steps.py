from __future__ import annotations

import torch

from recsys_spark.training.processes import Processes
from recsys_spark.training.steps import StepMaker


def rows(items, times):
    width = max(len(row) for row in items) + 2
    pad = [[*row, *[0] * (width - len(row))] for row in items]
    pad_times = [[*row, *[0] * (width - len(row))] for row in times]
    lengths = torch.tensor([len(row) for row in items], dtype=torch.int32)
    real = (lengths > 0).float()
    return {"items": torch.tensor(pad), "times": torch.tensor(pad_times), "length": lengths, "row_weight": real}


def pairs(make_spec, batch, epoch=1, **changes):
    """(token read, token that came next) of each real position."""
    step = StepMaker(make_spec(**changes), torch.ones(24), Processes()).make(batch, epoch, 1)
    read = step.tokens_R[step.inputs_BL.flatten()[step.positions_P]]
    return list(zip(read.tolist(), step.tokens_R[step.targets_P].tolist(), strict=True))


def test_where_no_two_events_share_a_time_the_target_is_the_next_item(make_spec):
    batch = rows([[5, 6, 5, 7], [], [8, 9]], [[1, 2, 3, 4], [], [7, 8]])
    assert pairs(make_spec, batch) == [(5, 6), (6, 5), (5, 7), (8, 9)]


def test_every_item_of_a_basket_points_to_items_of_the_next_basket(make_spec):
    batch = rows([[1, 2, 11, 12, 13, 21]], [[1, 1, 2, 2, 2, 3]])
    drawn = [pair for epoch in range(40) for pair in pairs(make_spec, batch, epoch)]
    assert set(drawn) == {(a, b) for a in (1, 2) for b in (11, 12, 13)} | {(a, 21) for a in (11, 12, 13)}


def test_a_row_that_is_one_basket_alone_falls_back_to_the_next_line(make_spec):
    assert pairs(make_spec, rows([[4, 5, 6]], [[9, 9, 9]])) == [(4, 5), (5, 6)]


def test_rows_of_weight_zero_and_rows_without_a_next_item_take_no_part(make_spec):
    batch = rows([[1, 2, 3], [4]], [[1, 2, 3], [1]])
    batch["row_weight"][0] = 0.0
    assert pairs(make_spec, batch) == []


def test_negatives_are_the_same_for_the_same_step_and_others_for_another(make_spec):
    batch, maker = rows([[1, 2, 3]], [[1, 2, 3]]), StepMaker(make_spec(), torch.ones(24), Processes())
    first, again, later = maker.make(batch, 1, 1), maker.make(batch, 1, 1), maker.make(batch, 1, 2)
    assert torch.equal(first.tokens_R, again.tokens_R)
    assert not torch.equal(first.tokens_R, later.tokens_R)


def test_rows_are_the_distinct_tokens_of_the_step_behind_the_padding(make_spec):
    step = StepMaker(make_spec(), torch.ones(24), Processes()).make(rows([[3, 3, 9]], [[1, 2, 3]]), 1, 1)
    assert step.tokens_R[0] == 0
    assert step.tokens_R.tolist() == sorted(set(step.tokens_R.tolist()))
    assert {3, 9} <= set(step.tokens_R.tolist())
