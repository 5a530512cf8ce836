"""Weights of an affinity beside a network: found where the right ones are planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys_spark.fitting.affinity import Cut, cut, learnt
from recsys_spark.models.affinity import Affinity, Decay
from recsys_spark.recommenders.base import Scores
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.histories import HistoryBlock

USERS, ITEMS, CODES = 400, 60, 6
DAY = 86_400


class Flat:
    """A network to which all items are equal, but for their places: later ones are less likely."""

    def score(self, batch: UserBatch) -> Scores:
        scores = -torch.arange(ITEMS, dtype=torch.float32) / ITEMS
        return Scores(scores.repeat(batch.size, 1), batch.lengths > 0)


def planted(weight: float, seed: int = 0) -> tuple[Affinity, Cut]:
    """Histories of items of mostly one code, and targets drawn by the network and an affinity of this weight."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.arange(ITEMS) % CODES + 1
    shares = torch.cat((torch.tensor([1e-3]), torch.full((CODES,), 1 / CODES)))
    truth = Affinity(("category",), codes[:, None], (shares,), torch.tensor([weight]), Decay(20.0, 90.0))
    lengths = torch.randint(5, 60, (USERS,), generator=generator)
    rows = torch.repeat_interleave(torch.arange(USERS), lengths)
    liked = torch.randint(CODES, (USERS,), generator=generator)[rows]
    any_item = torch.randint(ITEMS, rows.shape, generator=generator)
    of_liked = any_item // CODES * CODES + liked
    items = torch.where(torch.rand(rows.shape, generator=generator) < 0.6, of_liked, any_item)
    ages = torch.rand(rows.shape, generator=generator, dtype=torch.float64) * 300
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
    batch = UserBatch(items, torch.zeros_like(items), torch.ones(items.numel()), ages, offsets)
    table = truth.table(items, ages, rows, USERS)[:, truth.kinds[1]]
    targets = torch.multinomial((Flat().score(batch).scores + table).softmax(1), 20, True, generator=generator)
    return truth, Cut(batch, torch.arange(USERS).repeat_interleave(20), targets.flatten())


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_weight_that_the_targets_were_drawn_by_is_found(weight: float) -> None:
    truth, drawn = planted(weight)
    found = learnt(replace(truth, weights_A=torch.zeros(1), decay=Decay(1.0, None)), Flat(), drawn)
    assert found.weights_A.item() == pytest.approx(weight, abs=0.06)
    if weight:
        assert found.decay == truth.decay


def test_users_that_the_network_cannot_score_teach_nothing() -> None:
    truth, _ = planted(0.7)
    empty = UserBatch(*(torch.zeros(0, dtype=torch.int64) for _ in range(4)), torch.zeros(2, dtype=torch.int64))
    nobody = Cut(empty, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    blank = replace(truth, weights_A=torch.zeros(1))
    assert learnt(blank, Flat(), nobody) is blank


def block(histories: list[list[tuple[int, int]]]) -> tuple[HistoryBlock, np.ndarray]:
    """Of (item, day) of each user; the codes are the items, of which 9 is unknown."""
    events = [(item, day * DAY, row) for row, history in enumerate(histories) for item, day in history]
    items, times, users = (np.array([event[place] for event in events], dtype=np.int64) for place in range(3))
    zeros = np.zeros_like(items)
    made = HistoryBlock(items, zeros, np.ones(len(items), np.float32), times, zeros, users, len(histories))
    return made, np.where(items == 9, -1, items)


def test_a_history_is_cut_where_a_moment_begins_and_what_comes_next_is_the_target() -> None:
    history = [(1, 1), (2, 1), (9, 1), (3, 2), (4, 5), (5, 5), (6, 5)]
    for seed in range(10):
        made = cut(*block([history]), seed)
        before = made.before.items.tolist()
        assert before in ([1, 2], [1, 2, 3])  # never within a day, and not before the second half of six
        first = {2: 2, 3: 5}[len(before)]
        days = {1: 1, 2: 1, 3: 2}
        assert made.before.ages.tolist() == [float(first - days[item]) for item in before]
        assert made.code_T.tolist() == [item for item in (3, 4, 5, 6) if item not in before]
        assert made.row_T.tolist() == [0] * len(made.code_T)


def test_histories_of_one_moment_or_none_teach_nothing_and_keep_their_rows() -> None:
    made = cut(*block([[(1, 3), (2, 3)], [(9, 1)], [(1, 1), (2, 2)]]), seed=1)
    assert made.before.lengths.tolist() == [0, 0, 1]
    assert (made.row_T.tolist(), made.code_T.tolist()) == ([2], [2])


def test_what_is_learnt_of_a_user_does_not_change_with_what_follows_its_targets() -> None:
    history = [(1, day) for day in range(100)]
    made = cut(*block([history]), seed=3)
    assert len(made.code_T) == min(20, 100 - made.before.items.numel())
