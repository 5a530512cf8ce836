from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_spark.datasets.flat import FlatHistories, hashed
from recsys_spark.datasets.gathering import write_valid
from recsys_spark.datasets.petastorm_writer import write_loose
from recsys_spark.datasets.recipe import Recipe
from recsys_spark.datasets.sequences import MAX_TARGETS, distinct_targets, gaps_and_sessions, valid_rows, windows
from tests.unit.datasets.reading import batches

RECIPE = Recipe(
    seed=1,
    row_groups=2,
    max_length=3,
    max_windows=3,
    half_life_days=None,
    session_gap=1800,
    negatives=0,
    negative_power=0.75,
    target_types=(4,),
    valid_users=5,
)


@pytest.mark.parametrize("max_length", [2, 3, 5])
def test_each_step_to_the_next_event_is_in_exactly_one_window(max_length: int) -> None:
    lengths = np.arange(40)
    rows, number, start, end = windows(lengths, max_length, max_windows=100)
    assert ((end - start >= 2) & (end - start <= max_length)).all()
    for user, length in enumerate(lengths):
        own = rows == user
        steps = [step for low, high in zip(start[own], end[own], strict=True) for step in range(low, high - 1)]
        assert sorted(steps) == list(range(max(length - 1, 0)))
        assert number[own].tolist() == list(range(own.sum()))


def test_windows_are_cut_from_the_most_recent_event_backwards_up_to_the_most() -> None:
    _, number, start, end = windows(np.array([11]), max_length=4, max_windows=2)
    assert list(zip(number, start, end, strict=True)) == [(0, 7, 11), (1, 4, 8)]


def flat(users: list[list[tuple[int, int]]]) -> FlatHistories:
    """Users' (item, event type) pairs."""
    events = [event for user in users for event in user]
    count = len(events)
    return FlatHistories(
        users=np.arange(len(users)) + 1,
        offsets=np.cumsum([0, *map(len, users)]),
        items=np.array([item for item, _ in events], dtype=np.int64),
        event_types=np.array([type_ for _, type_ in events], dtype=np.int64),
        weights=np.ones(count, dtype=np.float32),
        times=np.arange(count),
        folds=np.ones(count, dtype=np.int64),
    )


def test_targets_are_distinct_tokens_of_target_events_in_order_of_first_occurrence() -> None:
    many = [(item, 4) for item in range(MAX_TARGETS + 10)]
    targets, count = distinct_targets(flat([[(7, 4), (3, 1), (2, 4), (7, 4)], [], [(0, 1)], many]), [4])
    assert count.tolist() == [2, 0, 0, MAX_TARGETS]
    assert targets[0, :3].tolist() == [8, 3, 0]
    assert not targets[1:3].any()
    assert targets[3].tolist() == list(range(1, MAX_TARGETS + 1))


def test_a_household_that_buys_a_hundred_items_in_the_valid_window_keeps_them_all_as_targets(tmp_path: Path) -> None:
    bought = flat([[(item, 4) for item in range(100)]])
    rows = valid_rows(replace(bought, folds=np.zeros(100)), bought, [4], max_length=3, max_users=5, seed=1)
    write_loose(rows, 1, tmp_path / "0.arrow")
    (tmp_path / "valid").mkdir()
    assert write_valid([tmp_path / "0.arrow"], RECIPE, tmp_path / "valid") == 1
    (read,) = [batch for batch in batches(tmp_path / "valid", ["targets", "items"], 4) if batch["targets"].any()]
    real = read["targets"].sum(dim=1).argmax()
    assert read["targets"][real].tolist() == [*range(1, 101), *[0] * (MAX_TARGETS - 100)]
    assert read["items"][real].tolist() == [98, 99, 100]


def test_the_valid_users_are_those_of_the_smallest_hashes_however_users_are_parted(tmp_path: Path) -> None:
    smallest = np.sort(hashed(1, np.arange(40) + 1, np.zeros(40, dtype=np.int64)))[: RECIPE.valid_users]
    contents = []
    for parts in ([range(40)], [range(0, 40, 2), range(1, 40, 2), range(0)]):
        folder = tmp_path / str(len(parts))
        (folder / "valid").mkdir(parents=True)
        files = [folder / f"{number}.arrow" for number in range(len(parts))]
        for file, users in zip(files, parts, strict=True):
            own = flat([[(user % 7, 4), (user % 5, 4)] for user in users])
            own = replace(own, users=np.array(users, dtype=np.int64) + 1, times=own.items * 100)
            write_loose(valid_rows(own, own, [4], 3, RECIPE.valid_users, seed=1), 1, file)
        assert write_valid(files, RECIPE, folder / "valid") == RECIPE.valid_users
        table = pq.read_table(folder / "valid").to_pylist()
        chosen = np.array([row["user_index"] for row in table if row["row_weight"]])
        assert np.sort(hashed(1, chosen, np.zeros(len(chosen), dtype=np.int64))).tolist() == smallest.tolist()
        contents.append(table)
    assert contents[0] == contents[1]


def test_gaps_are_seconds_since_the_event_before_and_a_long_one_parts_two_sessions() -> None:
    times = np.array([[100, 160, 2000, 2000, 0, 0], [5, 0, 0, 0, 0, 0], [0, 2**40, 2**40 + 1800, 0, 0, 0], [0] * 6])
    found = gaps_and_sessions({"times": times, "length": np.array([4, 1, 3, 0])}, session_gap=1800)
    assert found["gaps"].tolist() == [
        [0, 60, 1840, 0, 0, 0],
        [0] * 6,
        [0, 2**31 - 1, 1800, 0, 0, 0],
        [0] * 6,
    ]
    assert found["sessions"].tolist() == [[2, 2, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0], [2, 1, 1, 0, 0, 0], [0] * 6]
    assert {column.dtype for column in found.values()} == {np.dtype(np.int32)}


def test_hashes_differ_by_seed_part_and_place() -> None:
    a, b = np.array([1, 2, 1]), np.array([2, 1, 2])
    first = hashed(1, a, b)
    assert first[0] == first[2]
    assert len({*first.tolist(), *hashed(2, a, b).tolist()}) == 4
    assert (first >= 0).all()
