from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.training.data import GROUP, draw, read_histories, split_last, top_items, write_lists
from bench.training.evaluator import mean_ndcg, read_lists


def test_ndcg_of_lists_that_were_written_by_hand() -> None:
    seen = {1: [7], 2: [7], 3: [7], 4: [7]}
    lists = {
        1: [5, 6],  # at rank 1
        2: [7, 6, 6, 5],  # what was seen and repeats take no rank: at rank 2
        3: [*range(11, 21), 5],  # at rank 11
    }  # 4 has no list
    gains = [1, 1 / np.log2(3), 0, 0]
    assert mean_ndcg(lists, seen, dict.fromkeys((1, 2, 3, 4), 5)) == pytest.approx(sum(gains) / 4)


def test_a_target_that_was_seen_cannot_be_found() -> None:
    assert mean_ndcg({1: [5]}, {1: [5]}, {1: 5}) == 0


def test_the_last_item_is_test_and_the_one_before_it_valid(tmp_path: Path) -> None:
    (tmp_path / "histories.txt").write_text("1 4 5 6 7\n2 4 5 6\n")
    split = split_last(read_histories(tmp_path / "histories.txt"))
    assert split.train == {1: [4, 5]}  # user 2 would leave no pair to train
    assert split.valid == {1: 6}


def test_a_line_without_items_is_named(tmp_path: Path) -> None:
    (tmp_path / "histories.txt").write_text("1 4 5\n2\n")
    with pytest.raises(ValueError, match="line 2"):
        read_histories(tmp_path / "histories.txt")


def test_lists_hold_the_highest_scores_without_what_was_seen(tmp_path: Path) -> None:
    scores = np.array([[0.1, 0.4, 0.3, 0.2], [4, 3, 2, 1]], dtype=np.float32)
    items = top_items(scores, [[2], [1, 3]])
    write_lists(tmp_path, 1, [8, 9], items)
    assert read_lists(tmp_path / "lists-001.npz") == {8: [3, 4, 1, 0], 9: [2, 4, 0, 0]}


def test_drawn_histories_are_those_of_their_seed_and_long_enough() -> None:
    drawn = draw(users=5, items=120, length=20, seed=3)
    assert drawn == draw(users=5, items=120, length=20, seed=3)
    assert {len(items) for items in drawn.values()} == {23}
    assert all(1 <= item <= 120 for items in drawn.values() for item in items)


def test_valid_and_test_of_drawn_histories_are_new_to_their_user() -> None:
    for items in draw(users=40, items=120, length=60, seed=3).values():
        assert items[-2] not in items[:-2]
        assert items[-1] not in items[:-1]


def test_they_come_from_the_users_groups() -> None:
    for items in draw(users=40, items=5000, length=60, seed=3).values():
        assert len({(item - 1) // GROUP for item in items}) <= 4


def test_a_catalogue_that_was_all_seen_is_refused() -> None:
    with pytest.raises(ValueError, match="2 items are too few"):
        draw(users=1, items=2, length=20, seed=3)
