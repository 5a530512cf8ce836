"""Weights of an affinity beside a network: found where the right ones are planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

from recsys_spark.datasets.split import TEST, TRAIN, VALID
from recsys_spark.fitting.affinity import Cut, _cut, cut, learnt
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


def test_at_most_twenty_events_after_the_cut_are_targets() -> None:
    history = [(1, day) for day in range(100)]
    made = cut(*block([history]), seed=3)
    assert len(made.code_T) == min(20, 100 - made.before.items.numel())


SCHEMA = (
    "user_index int, items array<int>, event_types array<int>, weights array<float>, times array<bigint>, "
    "folds array<int>"
)


def test_events_after_the_fits_folds_change_nothing_nor_does_the_order_of_users(
    spark: SparkSession, tmp_path: Path
) -> None:
    ids = [f"i{code}" for code in range(8)]
    vocabulary = tmp_path / "vocabulary.parquet"
    pq.write_table(pa.table({"item_id": ids, "title": ids, "item_index": list(range(1, 9))}), vocabulary)

    def row(user: int, later: int) -> tuple[int, list[int], list[int], list[float], list[int], list[int]]:
        events = 10 + user
        items = [(user + place) % 8 + 1 for place in range(events + later)]
        folds = [TRAIN] * events + [VALID if place % 2 else TEST for place in range(later)]
        times = [place * DAY for place in range(events + later)]
        return user, items, [4] * len(items), [1.0] * len(items), times, folds

    def made(rows: list[tuple[int, list[int], list[int], list[float], list[int], list[int]]]) -> Cut:
        config, histories = SimpleNamespace(seed=3), spark.createDataFrame(rows, SCHEMA)
        inputs = SimpleNamespace(histories=histories, folds=(TRAIN,), config=config, vocabulary=vocabulary)
        return _cut(inputs, 100)  # type: ignore[arg-type]

    clean = made([row(user, 0) for user in range(1, 6)])
    poisoned = made([row(user, 3 * user) for user in (4, 2, 5, 1, 3)])
    assert clean.code_T.numel() > 5
    for one, other in zip(parts(clean), parts(poisoned), strict=True):
        assert torch.equal(one, other)


def parts(made: Cut) -> tuple[torch.Tensor, ...]:
    before = made.before
    return before.items, before.ages, before.offsets, made.row_T, made.code_T
