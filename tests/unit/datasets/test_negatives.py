from __future__ import annotations

import numpy as np
import pytest

from recsys_spark.datasets import negatives
from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.datasets.negatives import draw_negatives


def knowing(*users: list[int], first: int = 1) -> FlatHistories:
    """Users and the items that they know."""
    items = np.array([item for user in users for item in user], dtype=np.int64)
    nothing = np.zeros(len(items), dtype=np.int64)
    return FlatHistories(
        users=np.arange(len(users)) + first,
        offsets=np.cumsum([0, *map(len, users)]),
        items=items,
        event_types=nothing,
        weights=nothing.astype(np.float32),
        times=nothing,
        folds=nothing,
    )


def drawn(flat: FlatHistories, counts: list[int], power: float, number: int, seed: int = 1) -> np.ndarray:
    """One window of each user."""
    users = np.arange(len(flat.users))
    return draw_negatives(seed, flat, users, np.zeros_like(users), np.array(counts), power, number)


@pytest.mark.parametrize(("power", "shares"), [(0.0, [1, 1, 1]), (0.5, [1, 4, 2]), (1.0, [1, 16, 4])])
def test_items_are_drawn_by_a_power_of_their_counts(power: float, shares: list[float]) -> None:
    tokens = drawn(knowing([3]), [1, 16, 4, 1000], power, 40_000)
    found = np.bincount(tokens[0], minlength=5)
    assert found[0] == found[4] == 0
    assert found[1:4] / 40_000 == pytest.approx(np.array(shares) / sum(shares), abs=0.01)


def test_nobody_gets_an_item_of_the_own_history_even_who_knows_nearly_all() -> None:
    users = [[item for item in range(50) if item % 50 != user] for user in range(50)]
    tokens = drawn(knowing(*users), [10**6] * 49 + [1], 1.0, 3)
    assert (tokens == np.arange(50)[:, None] + 1).all()
    assert (drawn(knowing([0, 1], [1, 0]), [5, 3], 0.75, 4) == 0).all()


def test_chunks_of_rows_change_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    users = [[*range(user)] for user in range(1, 8)]  # the last one knows all
    whole = drawn(knowing(*users), [5, 1, 1, 1, 1, 1, 9], 0.75, 4)
    monkeypatch.setattr(negatives, "DRAWS_A_CHUNK", 9)  # two rows
    assert drawn(knowing(*users), [5, 1, 1, 1, 1, 1, 9], 0.75, 4).tobytes() == whole.tobytes()
    assert drawn(knowing(*users), [1] * 7, 0.75, 0).shape == (7, 0)


def test_a_draw_follows_from_seed_user_and_window_alone() -> None:
    histories = [[user % 9, 3] for user in range(20)]
    whole = drawn(knowing(*histories), [7] * 30, 0.75, 6)
    assert (drawn(knowing(*histories[12:], first=13), [7] * 30, 0.75, 6) == whole[12:]).all()
    assert (drawn(knowing(*histories), [7] * 30, 0.75, 6, seed=2) != whole).any()
    flat = knowing([1, 2])
    two = draw_negatives(1, flat, np.array([0, 0]), np.array([0, 1]), np.array([7] * 30), 0.75, 6)
    assert (two[0] != two[1]).any()
