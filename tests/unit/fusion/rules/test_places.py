"""Boosts, pins, caps, the least share of new items and diversity: where items stand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.fusion.rules.boosts import boosted
from recsys_spark.fusion.rules.compiled import ListRules
from recsys_spark.fusion.rules.filling import PINNED, RANKED
from tests.unit.fusion.rules.shelf import BRANDS, CATEGORIES, ITEMS, at, codes, compiled, listed, users


def test_a_factor_above_one_raises_every_score_and_one_below_lowers_it() -> None:
    scores = torch.tensor([2.0, 0.0, -2.0])
    assert boosted(scores, 4.0, 0.0).tolist() == [8.0, 0.0, -0.5]
    assert boosted(scores, 0.5, 0.0).tolist() == [1.0, 0.0, -4.0]
    assert boosted(scores, 1.0, 3.0).tolist() == [5.0, 3.0, 1.0]


def test_boosts_are_of_the_items_that_all_their_lists_name() -> None:
    """Cheese of the house's brand is items 4 and 6, with scores 2 and 0."""
    lists = listed(compiled(boosts={"b": {"categories": ["Cheese"], "brands": ["own"], "addend": 10}}))
    assert codes(lists) == [4, 6, 0, 1, 2]
    assert lists.scores[0].tolist() == [12, 10, 6, 5, 4]
    assert lists.boosted[0].tolist() == [True, True, False, False, False]


def test_boosts_and_pins_hold_from_their_first_day_to_their_last() -> None:
    """NOW is 2023-11-15; the moment of recommendation is compared, never a clock."""
    dates = {"from": "2023-11-20", "to": "2023-11-21"}
    boost = compiled(boosts={"b": {"items": ["i11"], "addend": 99, **dates}})
    pin = compiled(pins={"p": {"item": "i11", "position": 1, **dates}})
    for rules in (boost, pin):
        first = [codes(listed(at(rules, days)))[0] for days in (0, 4.99, 5, 6.99, 7)]
        assert first == [0, 0, 11, 11, 0]


def test_a_pinned_item_stands_at_its_position_and_the_others_move_down() -> None:
    lists = listed(compiled(pins={"a": {"item": "i9", "position": 2}, "b": {"item": "i1", "position": 5}}))
    assert codes(lists) == [0, 9, 2, 3, 1]
    assert lists.origins[0].tolist() == [RANKED, PINNED, RANKED, RANKED, PINNED]
    assert lists.propensities[0].tolist() == [1.0] * 5


def test_a_pin_of_a_segment_is_seen_by_its_users_alone() -> None:
    rules = compiled(
        pins={"p": {"item": "i9", "position": 1, "segment": "new"}, "all": {"item": "i8", "position": 1}},
        segments={"new": {"max_events": 0}},
    )
    lists = listed(rules, users([], [(3, 1.0)]), k=3)
    assert (codes(lists, 0), codes(lists, 1)) == ([9, 0, 1], [8, 0, 1])


def test_a_pinned_item_that_is_blocked_is_not_shown() -> None:
    assert codes(listed(compiled(out=("i9",), pins={"p": {"item": "i9", "position": 1}}))) == [0, 1, 2, 3, 4]


def test_a_pin_beyond_the_end_of_a_short_list_moves_up_to_it() -> None:
    rules = compiled(max_price=2, pins={"p": {"item": "i1", "position": 5}, "q": {"item": "i0", "position": 4}})
    assert codes(listed(rules)) == [2, 0, 1]


def test_a_pin_of_an_item_that_the_fusion_did_not_score_is_shown_with_a_score() -> None:
    scores = torch.full((1, ITEMS), -torch.inf)
    scores[0, :3] = torch.tensor([3.0, 2.0, 1.0])
    lists = listed(compiled(pins={"p": {"item": "i9", "position": 2}}), scores=scores)
    assert codes(lists) == [0, 9, 1, 2]
    assert torch.isfinite(lists.scores).all()


def test_at_most_n_of_each_category_and_brand_are_listed() -> None:
    assert codes(listed(compiled(caps={"c": {"at_most": 1}}))) == [0, 4, 8]
    assert codes(listed(compiled(caps={"c": {"at_most": 2}}))) == [0, 1, 4, 5, 8]
    both = compiled(caps={"c": {"at_most": 2}, "b": {"by": "brand", "at_most": 2}})
    assert codes(listed(both)) == [0, 1, 4, 5]


def test_a_cap_of_some_categories_leaves_the_others_alone() -> None:
    assert codes(listed(compiled(caps={"c": {"values": ["wine"], "at_most": 1}}))) == [0, 4, 5, 6, 7]


@pytest.mark.parametrize("oversample", [1, 5])
def test_caps_look_beyond_the_sampled_candidates(monkeypatch: pytest.MonkeyPatch, oversample: int) -> None:
    """With one candidate a place the first three are all wine: what the caps leave open follows all the same."""
    monkeypatch.setattr("recsys_spark.fusion.rules.filling.OVERSAMPLE", oversample)
    assert codes(listed(compiled(caps={"c": {"at_most": 1}}), k=3)) == [0, 4, 8]
    rules = compiled(caps={"c": {"at_most": 1}}, pins={"p": {"item": "i3", "position": 1}})
    assert codes(listed(rules, k=2)) == [3, 4]
    rules = compiled(caps={"c": {"values": ["WINE", "CHEESE"], "at_most": 1}, "b": {"by": "brand", "at_most": 2}})
    assert codes(listed(rules, k=4)) == [0, 4, 9, 11]


def test_pins_count_for_caps_and_two_pins_cannot_break_one() -> None:
    pins = {"p": {"item": "i2", "position": 1}, "q": {"item": "i3", "position": 2}}
    assert codes(listed(compiled(caps={"c": {"at_most": 1}}, pins=pins))) == [2, 4, 8]


def test_the_least_share_of_new_items_replaces_the_last_ones() -> None:
    rules = compiled(new=(9, 10, 11), new_items={"min_share": 0.4})
    assert codes(listed(rules)) == [0, 1, 2, 9, 10]


def test_new_items_that_are_listed_anyway_count_for_the_share() -> None:
    rules = compiled(new=(1, 10, 11), new_items={"min_share": 0.4})
    assert codes(listed(rules)) == [0, 1, 2, 3, 10]


def test_where_there_are_too_few_new_items_the_list_is_filled_with_others() -> None:
    rules = compiled(new=(11,), new_items={"min_share": 0.8})
    assert codes(listed(rules)) == [0, 1, 2, 3, 11]


def test_the_share_of_new_items_keeps_the_caps() -> None:
    rules = compiled(new=(8, 9, 10), new_items={"min_share": 0.6}, caps={"c": {"at_most": 2}})
    assert codes(listed(rules)) == [0, 1, 4, 8, 9]


def mmr(weight: float) -> ListRules:
    """Items 0, 1 and 2 point the same way, item 3 across, item 4 against them; the others have no vector."""
    vectors = torch.zeros(ITEMS, 2)
    vectors[:5] = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    return compiled(vectors=vectors, diversity={"weight": weight})


def test_maximal_marginal_relevance_prefers_what_is_unlike_the_list() -> None:
    """Relevance is (11 - code) / 11. At w = 0.3 item 1 has 0.7 x 10/11 - 0.3 = 0.34, item 3 has 0.51 and is unlike."""
    assert codes(listed(mmr(0.3), k=3)) == [0, 3, 4]
    assert codes(listed(mmr(0.05), k=3)) == [0, 1, 2]


def test_marginal_relevance_by_hand() -> None:
    """The definition, item by item, on a random catalogue; the code works on whole blocks."""
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(ITEMS, 3, generator=generator)
    scores = torch.randn(2, ITEMS, generator=generator)
    lists = listed(compiled(vectors=vectors, diversity={"weight": 0.4}), users([], []), k=6, scores=scores.clone())
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    for row in range(2):
        low, high = float(scores[row].min()), float(scores[row].max())
        chosen: list[int] = []
        for _ in range(6):
            value = {
                code: 0.6 * (float(scores[row, code]) - low) / (high - low)
                - 0.4 * max([0.0, *(float(unit[code] @ unit[other]) for other in chosen)])
                for code in range(ITEMS)
                if code not in chosen
            }
            chosen.append(max(value, key=lambda code: value[code]))
        assert codes(lists, row) == chosen


def test_lists_keep_every_rule_together_and_are_the_same_each_time() -> None:
    """Many users with random scores: no blocked item, caps hold, no duplicates, full lists, the same again."""
    generator = torch.Generator().manual_seed(11)
    scores = torch.randn(200, ITEMS, generator=generator)
    scores[:, 4:][torch.rand(200, ITEMS - 4, generator=generator) < 0.1] = -torch.inf  # enough is left for full lists
    batch = users(*[[] for _ in range(200)])
    rules = compiled(
        new=(5, 6, 7, 9, 10),
        out=("i2",),
        caps={"c": {"at_most": 2}, "b": {"by": "brand", "values": ["Own"], "at_most": 3}},
        pins={"p": {"item": "i8", "position": 3}},
        new_items={"min_share": 0.4},
        exploration={"share": 0.2, "candidates": 3, "first_rank": 2},
        vectors=torch.randn(ITEMS, 3, generator=generator),
        diversity={"weight": 0.2},
    )
    lists = listed(rules, batch, scores=scores.clone())
    for row in range(200):
        own = codes(lists, row)
        assert len(own) == len(set(own)) == 5
        assert 2 not in own
        assert own[2] == 8
        assert max(sum(CATEGORIES[code] == name for code in own) for name in set(CATEGORIES)) <= 2
        assert sum(BRANDS[code] == "Own" for code in own) <= 3
        assert sum(code in (5, 6, 7, 9, 10) for code in own) >= 2
    again = listed(rules, batch, scores=scores.clone())
    assert torch.equal(lists.items, again.items)
    assert torch.equal(lists.propensities, again.propensities)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"caps": {"c": {"values": ["WINES"], "at_most": 1}}},
            "rules.caps.c.values: no item has the category 'WINES'; ",
        ),
        ({"boosts": {"b": {"brands": ["Ownn"], "factor": 2}}}, "rules.boosts.b.brands: no item has the brand 'Ownn'; "),
        ({"pins": {"p": {"item": "x", "position": 1}}}, "rules.pins.p.item: there is no item 'x' in the table items"),
        (
            {"segments": {"s": {"max_events": 1, "never_categories": ["zzz"]}}},
            "rules.segments.s.never_categories: no item has the category 'zzz'; see the table items",
        ),
    ],
)
def test_a_name_that_the_catalogue_does_not_know_is_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        compiled(**settings)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_a_category_that_no_item_of_the_fit_has_is_no_mistake_and_a_pin_of_an_unknown_item_waits() -> None:
    assert codes(listed(compiled(caps={"c": {"values": ["beer"], "at_most": 1}}))) == [0, 1, 2, 3, 4]
    assert compiled(pins={"p": {"item": "tomorrow's", "position": 1}}).pins == ()
