"""What must not stand in a list does not stand there; each rule by itself, with its answer written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys_spark.fusion.rules.interval import bought_too_lately
from tests.unit.fusion.rules.shelf import ITEMS, VIEW, codes, compiled, falling, listed, users


def test_without_a_rule_the_best_items_are_listed_in_order() -> None:
    assert codes(listed(compiled())) == [0, 1, 2, 3, 4]


def test_blocked_items_and_those_out_of_stock_are_out_and_unknown_ids_do_no_harm() -> None:
    assert codes(listed(compiled(out=("i0", "i3", "never heard of")))) == [1, 2, 4, 5, 6]


def test_items_outside_the_price_bounds_are_out() -> None:
    assert codes(listed(compiled(min_price=2, max_price=4))) == [2, 3, 4]
    assert codes(listed(compiled(max_price=1))) == [0, 1]


@pytest.mark.parametrize(("unpriced", "expected"), [("keep", [0, 2]), ("drop", [2])])
def test_items_without_a_price_are_kept_or_dropped_as_configured(unpriced: str, expected: list[int]) -> None:
    from recsys_spark.config.rules import Rules
    from recsys_spark.fusion.rules.compile import ItemFacts, Names, compile_rules
    from tests.unit.fusion.rules.shelf import NOW, VOCABULARY

    names = Names("category", [None] * ITEMS, [])
    prices = np.array([np.nan, 50.0, 1.0, *[50.0] * 9])
    facts = ItemFacts(VOCABULARY, names, names, prices, np.zeros(ITEMS, dtype=np.int64), lambda _: True)
    rules = compile_rules(Rules(max_price=2, unpriced=unpriced), facts, NOW, 7, ())
    assert codes(listed(rules)) == expected


def test_what_was_bought_within_a_share_of_the_users_own_interval_is_out() -> None:
    """Bought 4, 14 and 24 days ago: every 10 days; at half the interval 4 days are too few, at 0.3 they are enough."""
    batch = users([(0, 24.0), (0, 14.0), (0, 4.0)])
    assert codes(listed(compiled(interval={"share": 0.5}), batch)) == [1, 2, 3, 4, 5]
    assert codes(listed(compiled(interval={"share": 0.3}), batch)) == [0, 1, 2, 3, 4]


def test_where_the_user_has_no_interval_of_his_own_that_of_the_item_counts() -> None:
    medians = np.full(ITEMS, np.nan, dtype=np.float32)
    medians[0], medians[1] = 30, 6
    rules = compiled(interval={"share": 0.5}, intervals=medians)
    batch = users([(0, 14.0), (1, 5.0), (2, 0.5)], [(0, 16.0), (1, 1.0)])
    lists = listed(rules, batch)
    assert codes(lists, 0) == [1, 2, 3, 4, 5]  # 14 < 15; 5 > 3; of item 2 nothing is known
    assert codes(lists, 1) == [0, 2, 3, 4, 5]  # 16 > 15; 1 < 3


def test_what_was_only_viewed_was_not_bought() -> None:
    medians = np.full(ITEMS, 30, dtype=np.float32)
    rules = compiled(interval={"share": 1.0}, intervals=medians)
    assert codes(listed(rules, users([(0, 1.0)], kind=VIEW))) == [0, 1, 2, 3, 4]


def test_the_own_interval_is_the_median_of_gaps_between_different_days() -> None:
    """Gaps 1, 9 and 2 (twice on one day): median 2; with one more of 4 days it is 3."""
    odd = users([(3, 12.5), (3, 11.5), (3, 2.5), (3, 2.4), (3, 0.5)])
    even = users([(3, 16.5), (3, 12.5), (3, 11.5), (3, 2.5), (3, 0.5)])
    nothing = torch.full((ITEMS,), torch.nan)
    for batch, median in ((odd, 2.0), (even, 3.0)):
        bought = torch.ones(batch.items.numel(), dtype=torch.bool)
        assert bought_too_lately(batch, bought, nothing, 0.5 / median)[1].tolist() == []
        assert bought_too_lately(batch, bought, nothing, 0.51 / median)[1].tolist() == [3]


def test_a_segment_sees_no_item_of_its_forbidden_categories_and_others_do() -> None:
    rules = compiled(segments={"new": {"max_events": 1, "never_categories": ["wine"]}})
    lists = listed(rules, users([(9, 3.0)], [(9, 3.0), (10, 2.0)]))
    assert codes(lists, 0) == [4, 5, 6, 7, 8]
    assert codes(lists, 1) == [0, 1, 2, 3, 4]


def test_a_segment_sees_only_its_categories() -> None:
    rules = compiled(segments={"heavy": {"min_events": 2, "only_categories": ["BREAD"]}})
    lists = listed(rules, users([(9, 3.0)], [(9, 3.0), (10, 2.0)]), k=6)
    assert codes(lists, 0) == [0, 1, 2, 3, 4, 5]
    assert codes(lists, 1) == [8, 9, 10, 11]


@pytest.mark.parametrize(("unknown", "strangers"), [(True, [4, 5]), (False, [0, 1])])
def test_a_segment_of_listed_users_holds_them_and_strangers_only_where_unknown_says_so(
    unknown: bool, strangers: list[int]
) -> None:
    bits = np.full(16, unknown)
    bits[[1, 2, 9]] = [False, True, True]
    segment = {"attribute": "age", "values": ["young"], "unknown": unknown, "never_categories": ["WINE"]}
    members = {"minors": torch.from_numpy(np.packbits(bits, bitorder="little"))}
    rules = compiled(segments={"minors": segment}, members=members)
    lists = listed(rules, users([], [], [], [], [], index=[1, 2, 9, 0, 999]), k=2)
    assert [codes(lists, row) for row in range(5)] == [[0, 1], [4, 5], [4, 5], strangers, strangers]


def test_items_on_which_a_recommender_that_stands_alone_is_silent_are_not_listed() -> None:
    assert codes(listed(compiled(out=("i0",)), silent_score=2.0)) == [1, 2, 3, 5, 6]


def test_a_list_that_the_interval_empties_falls_back_on_popularity_under_the_hard_rules() -> None:
    """Only item 0 has a score and was just bought; the fallback likes 11, 10, 9, ... best, of which 10 is blocked."""
    medians = np.full(ITEMS, 30, dtype=np.float32)
    rules = compiled(out=("i10",), interval={"share": 1.0}, intervals=medians)
    scores = torch.full((2, ITEMS), -torch.inf)
    scores[:, 0] = 1
    lists = listed(rules, users([(0, 1.0)], [(1, 1.0)]), k=3, scores=scores)
    assert lists.emptied.tolist() == [True, False]
    assert codes(lists, 0) == [11, 9, 8]
    assert lists.scores[0].tolist() == [11, 9, 8]
    assert codes(lists, 1) == [0]


def test_the_fallback_does_not_repeat_what_the_user_bought_where_repeats_are_dropped() -> None:
    scores = torch.full((1, ITEMS), -torch.inf)
    lists = listed(compiled(out=("i0",)), scores=scores, k=2, dropped=(torch.tensor([0]), torch.tensor([11])))
    assert codes(lists) == [10, 9]


def test_where_the_hard_rules_leave_nothing_the_list_is_empty() -> None:
    assert codes(listed(compiled(out=tuple(f"i{n}" for n in range(ITEMS))))) == []


def test_users_of_a_block_do_not_touch_one_another() -> None:
    medians = np.full(ITEMS, 9, dtype=np.float32)
    rules = compiled(
        new=(8, 9, 10),
        interval={"share": 1.0},
        intervals=medians,
        caps={"each": {"at_most": 2}},
        exploration={"share": 0.4},
    )
    batch = users([(0, 1.0)], [], [(1, 2.0), (5, 3.0)], [(2, 100.0)])
    whole = listed(rules, batch, scores=falling(4))
    for row in range(4):
        alone = listed(rules, batch.rows(row, row + 1))
        assert alone.items[0].tolist() == whole.items[row].tolist()
        assert alone.propensities[0].tolist() == whole.propensities[row].tolist()
