from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.datasets.flat import FlatHistories, hashed
from recsys_spark.datasets.histories import _grouped
from recsys_spark.datasets.sequences import MAX_TARGETS, distinct_targets, windows
from recsys_spark.datasets.split import Cuts


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


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_users_are_grouped_whole_however_their_rows_are_cut_into_batches(size: int) -> None:
    rows = [("a", 1), ("b", 2), ("b", 3), ("b", 4), ("b", 5), ("c", 6), ("d", 7), ("d", 8)]
    batch = pa.RecordBatch.from_pydict(
        {
            "user_id": [user for user, _ in rows],
            "item_index": pa.array([item for _, item in rows], pa.int32()),
            "event_type": pa.array([4] * len(rows), pa.int32()),
            "weight": pa.array([1.0] * len(rows), pa.float32()),
            "time": pa.array([item * 10 for _, item in rows], pa.int64()),
        }
    )
    empty = batch.slice(0, 0)
    cut = [batch.slice(at, size) for at in range(0, len(rows), size)]
    grouped = _grouped(Cuts(as_of=1000, valid_start=40, test_start=80))([empty, *cut, empty])
    users = [user for part in grouped for user in part.to_pylist()]
    assert [(user["user_id"], user["items"]) for user in users] == [
        ("a", [1]),
        ("b", [2, 3, 4, 5]),
        ("c", [6]),
        ("d", [7, 8]),
    ]
    assert [user["folds"] for user in users] == [[0], [0, 0, 1, 1], [1], [1, 2]]


def test_hashes_differ_by_seed_part_and_place() -> None:
    a, b = np.array([1, 2, 1]), np.array([2, 1, 2])
    first = hashed(1, a, b)
    assert first[0] == first[2]
    assert len({*first.tolist(), *hashed(2, a, b).tolist()}) == 4
    assert (first >= 0).all()
