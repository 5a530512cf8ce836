from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from recsys_spark.models.step import Step
from recsys_spark.training.processes import Processes
from recsys_spark.training.steps import StepMaker

HOUR = 3600


def rows(items, times, first_user=1):
    width = max(len(row) for row in items) + 2
    pad, pad_times = (torch.tensor([[*row, *[0] * (width - len(row))] for row in values]) for values in (items, times))
    lengths = torch.tensor([len(row) for row in items], dtype=torch.int32)
    return {
        "items": pad,
        "times": pad_times,
        "length": lengths,
        "row_weight": (lengths > 0).float(),
        "event_types": (pad % 6).to(torch.int32),
        "user_index": torch.arange(first_user, first_user + len(items), dtype=torch.int32),
    }


def ordered(items):
    return rows(items, [[HOUR * place for place in range(len(row))] for row in items])


def maker(make_spec, processes=None, **changes):
    return StepMaker(make_spec(**changes), torch.arange(1, 25), processes or Processes())


def read_and_next(step: Step):
    """(token read, token that came next) of each position."""
    return list(zip(step.tokens_R[step.inputs_P].tolist(), step.tokens_R[step.targets_P].tolist(), strict=True))


def pairs(make_spec, batch, epoch=1, **changes):
    return read_and_next(maker(make_spec, **changes).make({0: batch}, epoch, 1))


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
    step = maker(make_spec).make({0: batch}, 1, 1)
    assert step.positions == 0
    assert step.history.rows.size == 0


def test_events_that_nothing_comes_after_are_not_read(make_spec):
    batch = rows([[1, 2, 3, 4], [5, 6, 7]], [[1, 2, 3, 3], [1, 2, 3]])
    step = maker(make_spec).make({0: batch}, 1, 1)
    assert step.history.rows.lengths_B.tolist() == [2, 2]
    assert step.tokens_R[step.inputs_P].tolist() == [1, 2, 5, 6]


def test_event_types_gaps_and_users_go_with_the_events_where_they_are_asked_for(make_spec):
    batch = rows([[1, 2, 3], [4], [5, 6, 7]], [[10, 20, 50], [1], [100, 1000, 1001]])
    plain = maker(make_spec).make({0: batch}, 1, 1).history
    assert plain.event_types_P is None
    assert plain.gaps_P is None
    assert plain.users_U is None
    known = maker(make_spec, event_types=True, time_gaps=True, num_users=9).make({0: batch}, 1, 1).history
    assert known.event_types_P.tolist() == [1, 2, 5, 0]
    assert known.gaps_P.tolist() == [0, 10, 0, 900]
    assert known.users_U[known.user_B].tolist() == [1, 3]


def test_negatives_are_the_same_for_the_same_step_and_others_for_another(make_spec):
    batch, made = ordered([[1, 2, 3]]), maker(make_spec)
    first, again, later = made.make({0: batch}, 1, 1), made.make({0: batch}, 1, 1), made.make({0: batch}, 1, 2)
    assert torch.equal(first.tokens_R, again.tokens_R)
    assert not torch.equal(first.tokens_R, later.tokens_R)


def test_rows_are_the_distinct_tokens_of_the_step_behind_the_padding(make_spec):
    step = maker(make_spec).make({0: ordered([[3, 3, 9]])}, 1, 1)
    assert step.tokens_R[0] == 0
    assert step.tokens_R.tolist() == sorted(set(step.tokens_R.tolist()))
    assert {3, 9} <= set(step.tokens_R.tolist())


def test_in_batch_negatives_are_the_targets_of_the_step_weighed_by_how_often_they_come_up(make_spec):
    step = maker(make_spec, loss="in_batch").make({0: ordered([[1, 7, 8], [2, 7], [3, 7]])}, 1, 1)
    assert step.tokens_R[step.negatives.rows].tolist() == [7, 8]
    frequency = torch.tensor([7.0, 8.0]) / torch.arange(1, 25).sum()
    torch.testing.assert_close(step.negatives.log_weight, torch.log(torch.tensor([3.0, 1.0]) / 4 / frequency))


@dataclass(frozen=True)
class Shared(Processes):
    """One of two processes, whose exchanges with the other are answered from a first round in which both were asked."""

    said: list[list[torch.Tensor]] = field(default_factory=lambda: [[], []])
    rounds: list[int] = field(default_factory=lambda: [0])

    def union_(self, marks: torch.Tensor) -> None:
        self._exchange(marks, torch.maximum)

    def add_(self, counts: torch.Tensor) -> None:
        self._exchange(counts, torch.add)

    def _exchange(self, values, joined):
        turn = self.rounds[0]
        self.rounds[0] += 1
        if turn >= len(self.said[self.rank]):
            self.said[self.rank].append(values.clone())
        if turn < len(self.said[1 - self.rank]):
            values.copy_(joined(values, self.said[1 - self.rank][turn]))


def of_two_processes(make_spec, lanes, **changes):
    """The steps of both, each with every other lane."""
    said: list[list[torch.Tensor]] = [[], []]
    for _ in range(2):  # after the first round each has heard the other
        steps = [
            maker(make_spec, Shared(rank=rank, size=2, said=said), **changes).make(
                {lane: batch for lane, batch in lanes.items() if lane % 2 == rank}, 1, 1
            )
            for rank in range(2)
        ]
    return steps


@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax", "in_batch", "bce"])
def test_two_processes_share_the_lanes_of_one_and_draw_the_same(make_spec, loss):
    lanes = {lane: ordered([[lane + 1, lane + 2, lane + 9], [5, lane + 1]]) for lane in range(4)}
    lanes[2]["row_weight"][:] = 0
    changes = {"loss": loss, "negatives": 3, "num_users": 9}
    one, two = maker(make_spec, **changes).make(lanes, 1, 1), of_two_processes(make_spec, lanes, **changes)
    for part in two:
        assert torch.equal(part.tokens_R, one.tokens_R)
        assert torch.equal(part.history.users_U, one.history.users_U)
    assert sorted(read_and_next(two[0]) + read_and_next(two[1])) == sorted(read_and_next(one))
    if loss == "bce":
        parts = [part.negatives.rows.tolist() for part in two]
        assert sorted(parts[0] + parts[1]) == sorted(one.negatives.rows.tolist())
    else:
        for part in two:
            assert torch.equal(part.negatives.rows, one.negatives.rows)
            assert torch.equal(part.negatives.log_weight, one.negatives.log_weight)
