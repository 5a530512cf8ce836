"""Users at moments of their own: what is drawn, what is then history and what is to be foretold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.recommenders.histories import HistoryBlock
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.scoring.blocks import UserBlock
from recsys_spark.scoring.own_moments import at_moments, draw_moments
from recsys_spark.scoring.relevance import target_pairs

HOUR, DAY = 3600, 86400
TRAIN, VALID, TEST = 0, 1, 2
VIEW, PURCHASE = 1, 4
ITEMS = 9
VOCABULARY = Vocabulary(
    pa.table({"item_id": [*"abcdefghi"], "title": [*"abcdefghi"], "item_index": pa.array(range(ITEMS), pa.int32())})
)
Event = tuple[int, int, int, int]
"""Item, type, epoch seconds, fold."""

BUYER: list[Event] = [
    (0, PURCHASE, 90 * DAY, TRAIN),
    (1, PURCHASE, 101 * DAY, VALID),  # with the next one an order
    (2, PURCHASE, 101 * DAY, VALID),
    (3, VIEW, 102 * DAY, VALID),
    (4, PURCHASE, 103 * DAY, VALID),  # the last order: nothing follows it but in the test window
    (5, PURCHASE, 103 * DAY + HOUR // 2, VALID),
    (6, PURCHASE, 120 * DAY, TEST),
]
VIEWER: list[Event] = [(7, VIEW, 101 * DAY, VALID), (8, VIEW, 104 * DAY, VALID)]


def block_of(histories: Sequence[Sequence[Event]]) -> UserBlock:
    flat = [event for history in histories for event in history]
    columns = [np.array([event[place] for event in flat], dtype=np.int64) for place in range(4)]
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    events = HistoryBlock(
        items=columns[0],
        event_types=columns[1],
        weights=np.ones(len(flat), dtype=np.float32),
        times=columns[2],
        folds=columns[3],
        users=users,
        size=len(histories),
        user_index=np.arange(len(histories)) + 40,
    )
    ids = pa.array([f"user {number}" for number in range(len(histories))])
    return UserBlock(ids, events.before((TRAIN,), 100 * DAY, VOCABULARY), events)


def drawn(block: UserBlock, most: int, seed: int = 3, end: int | None = None) -> list[tuple[int, int, int]]:
    found = draw_moments(block.events, VALID, ["purchase"], end, most, seed)
    return sorted(
        (int(row), int(now), int(until))
        for own in found
        for row, now, until in zip(own.rows, own.now, own.until, strict=True)
    )


def test_moments_are_those_of_events_that_an_order_follows_in_the_window() -> None:
    block = block_of([VIEWER, BUYER])
    assert drawn(block, 7) == [
        (1, 101 * DAY, 103 * DAY + HOUR),
        (1, 102 * DAY, 103 * DAY + HOUR),
        (1, 103 * DAY, 103 * DAY + HOUR // 2 + HOUR),  # the rest of an order that is under way
    ]


def test_no_moment_lies_between_the_lines_of_one_order() -> None:
    lines: list[Event] = [(item, PURCHASE, 101 * DAY + 4 * item, VALID) for item in range(4)]
    order = [*lines, (5, VIEW, 101 * DAY + 6, VALID), (4, PURCHASE, 102 * DAY, VALID)]
    assert drawn(block_of([sorted(order, key=lambda event: event[2])]), 7) == [(0, 101 * DAY + 12, 102 * DAY + HOUR)]


def test_what_follows_the_labels_days_is_no_order() -> None:
    assert drawn(block_of([BUYER]), 7, end=103 * DAY) == []


def test_at_most_so_many_are_drawn_and_one_of_a_user_at_a_time() -> None:
    block = block_of([BUYER, VIEWER, BUYER, BUYER])
    for own in draw_moments(block.events, VALID, ["purchase"], None, 2, 3):
        assert own.rows.tolist() == [0, 2, 3]
    assert len(set(drawn(block, 2))) == 6
    everyone = {tuple(drawn(block, 2, seed)) for seed in range(20)}
    assert len(everyone) > 4  # other lots, other moments


def test_moments_come_first_whose_order_follows_on_the_same_day() -> None:
    for seed in range(10):
        assert drawn(block_of([BUYER]), 1, seed) == [(0, 103 * DAY, 103 * DAY + HOUR // 2 + HOUR)]


def test_a_user_has_his_moments_whoever_stands_beside_him() -> None:
    alone = draw_moments(block_of([BUYER]).events, VALID, ["purchase"], None, 1, 3)[0].now
    beside = block_of([BUYER, VIEWER, BUYER])
    assert draw_moments(beside.events, VALID, ["purchase"], None, 1, 3)[0].now[0] == alone[0]


@pytest.mark.parametrize(
    ("now", "history", "ages", "order"),
    [
        (101 * DAY, [0, 1, 2], [11.0, 0.0, 0.0], [4, 5]),
        (102 * DAY, [0, 1, 2, 3], [12.0, 1.0, 1.0, 0.0], [4, 5]),
        (103 * DAY, [0, 1, 2, 3, 4], [13.0, 2.0, 2.0, 1.0, 0.0], [5]),
    ],
)
def test_history_ends_at_the_moment_and_the_next_order_is_to_be_foretold(
    now: int, history: list[int], ages: list[float], order: list[int]
) -> None:
    block = block_of([VIEWER, BUYER])
    [own] = [one for one in draw_moments(block.events, VALID, ["purchase"], None, 7, 3) if now in one.now.tolist()]
    seen = at_moments(block, own, VALID, VOCABULARY)
    assert seen.user_ids.to_pylist() == ["user 1"]
    assert seen.batch.items.tolist() == history
    assert seen.batch.ages.tolist() == ages
    assert seen.batch.user_index is not None
    assert seen.batch.user_index.tolist() == [41]
    assert target_pairs(seen.events, VALID, ["purchase"]).items.tolist() == order


def test_whatever_comes_after_the_moment_never_reaches_the_history() -> None:
    """Everything later is poisoned, the next order too: what the features are made from does not move a bit."""
    poisoned = [event if event[2] <= 101 * DAY else (8, PURCHASE, event[2] + 7, event[3]) for event in BUYER]
    batches = []
    for history in (BUYER, poisoned):
        block = block_of([history])
        [own] = [o for o in draw_moments(block.events, VALID, ["purchase"], None, 7, 3) if 101 * DAY in o.now.tolist()]
        batches.append(at_moments(block, own, VALID, VOCABULARY).batch)
    for name in ("items", "event_types", "weights", "ages", "offsets"):
        assert getattr(batches[0], name).tolist() == getattr(batches[1], name).tolist()
    assert batches[0].items.tolist() == [0, 1, 2]
