"""Exploration: who is drawn, where, and with what probability."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from recsys_spark.fusion.rules.compiled import ListRules
from recsys_spark.fusion.rules.exploration import arrange, draws, explored_places, smallest, user_keys
from recsys_spark.fusion.rules.filling import DRAWN, RANKED
from recsys_spark.fusion.rules.lists import RuledLists
from tests.unit.fusion.rules.shelf import CATEGORIES, codes, compiled, falling, listed, users

NEW = (6, 7, 8, 9)


def many(rules: ListRules, k: int = 5, count: int = 4000) -> RuledLists:
    """Lists of users who differ in their index alone: as many independent draws."""
    return listed(rules, users(*[[] for _ in range(count)]), k=k, scores=falling(count))


@pytest.mark.parametrize(("share", "k", "places"), [(0.1, 10, 1), (0.1, 20, 2), (0.1, 4, 0), (0.1, 5, 1), (0.5, 3, 2)])
def test_the_share_of_places_is_rounded_to_the_nearest(share: float, k: int, places: int) -> None:
    assert explored_places(share, k) == places


def test_a_drawn_item_is_new_and_its_propensity_is_that_of_the_place_times_that_of_the_item() -> None:
    """Two of five places and four eligible items: each item at each place with 2/5 x 1/4."""
    lists = many(compiled(new=NEW, exploration={"share": 0.4}))
    drawn = lists.origins == DRAWN
    assert (drawn.sum(1) == 2).all()
    assert set(lists.items[drawn].tolist()) == set(NEW)
    assert torch.allclose(lists.propensities[drawn], torch.tensor(0.1, dtype=torch.float64))


@pytest.mark.parametrize("first_rank", [1, 3])
def test_how_often_an_item_stands_in_a_place_is_its_propensity(first_rank: int) -> None:
    """Monte Carlo over 4,000 users: frequencies of (item, place) against the logged numbers, within 5 deviations."""
    lists = many(compiled(new=NEW, exploration={"share": 0.4, "first_rank": first_rank}))
    counts: Counter[tuple[int, int]] = Counter()
    logged: dict[tuple[int, int], set[float]] = {}
    for items, propensities in zip(lists.items.tolist(), lists.propensities.tolist(), strict=True):
        for place, (item, propensity) in enumerate(zip(items, propensities, strict=True)):
            counts[item, place] += 1
            logged.setdefault((item, place), set()).add(round(propensity, 9))
    assert all(len(values) == 1 for values in logged.values())  # one number for each pair, whoever the user
    for pair, count in counts.items():
        [propensity] = logged[pair]
        deviation = (propensity * (1 - propensity) / 4000) ** 0.5
        assert abs(count / 4000 - propensity) <= 5 * deviation + 1e-9, pair
    for place in range(5):
        assert sum(min(logged[pair]) for pair in logged if pair[1] == place) == pytest.approx(1.0)


def test_the_propensity_of_ranked_items_is_counted_out() -> None:
    """Five places, two of them drawn: of the ten equally likely choices, those in which ranked item j stands at a."""
    width = 5
    lots = draws(1, user_keys(users(*[[] for _ in range(300)])), 0, 1, width)
    three, two = torch.full((300,), 3), torch.full((300,), 2)
    places = arrange(torch.zeros((300, 0), dtype=torch.int64), three, two, torch.full((300,), 9), 1, width, lots)
    choices = [tuple(place not in drawn for place in range(width)) for drawn in combinations(range(width), 2)]
    for row in range(300):
        for place in range(width):
            ranked = int(places.ranked_BK[row, place])
            if ranked >= 0:
                fitting = [c for c in choices if c[place] and sum(c[:place]) == ranked]
                assert float(places.propensity_BK[row, place]) == pytest.approx(len(fitting) / len(choices))


def test_places_above_the_first_rank_are_never_drawn_and_are_certain() -> None:
    lists = many(compiled(new=NEW, exploration={"share": 0.4, "first_rank": 4}), count=200)
    assert (lists.origins[:, :3] == RANKED).all()
    assert (lists.propensities[:, :3] == 1).all()
    assert (lists.origins[:, 3:] == DRAWN).all()
    assert torch.allclose(lists.propensities[:, 3:], torch.tensor(0.25, dtype=torch.float64))


def test_only_the_best_new_items_are_eligible() -> None:
    lists = many(compiled(new=NEW, exploration={"share": 0.2, "candidates": 2}), count=200)
    assert set(lists.items[lists.origins == DRAWN].tolist()) == {6, 7}
    assert torch.allclose(lists.propensities[lists.origins == DRAWN], torch.tensor(0.1, dtype=torch.float64))


def test_new_items_that_are_ranked_are_not_drawn_twice() -> None:
    lists = many(compiled(new=(0, 1, 2, 8), exploration={"share": 0.4}), count=200)
    assert (lists.origins == DRAWN).sum(1).tolist() == [1] * 200  # 0 to 2 are ranked, one eligible item is left
    assert all(len(set(row)) == 5 for row in lists.items.tolist())
    assert set(lists.items[lists.origins == DRAWN].tolist()) == {8}
    assert torch.allclose(lists.propensities[lists.origins == DRAWN], torch.tensor(0.2, dtype=torch.float64))


def test_without_new_items_the_list_is_the_plain_one() -> None:
    lists = listed(compiled(exploration={"share": 0.4}))
    assert codes(lists) == [0, 1, 2, 3, 4]
    assert lists.propensities[0].tolist() == [1.0] * 5


def test_blocked_items_are_never_drawn_and_caps_hold_whatever_is_drawn() -> None:
    rules = compiled(new=(4, 5, 6, 7, 8, 9), out=("i4",), exploration={"share": 0.6}, caps={"c": {"at_most": 2}})
    lists = many(rules, count=500)
    for row in range(500):
        own = codes(lists, row)
        assert 4 not in own
        assert all(sum(CATEGORIES[code] == name for code in own) <= 2 for name in set(CATEGORIES))
    # Two wines are ranked; two each of cheese and bread are eligible, whichever three of them are drawn.
    assert set(lists.items[lists.origins == DRAWN].tolist()) == {5, 6, 8, 9}
    assert torch.allclose(lists.propensities[lists.origins == DRAWN], torch.tensor(0.6 / 4, dtype=torch.float64))


def test_pins_keep_their_place_while_others_are_drawn() -> None:
    rules = compiled(new=NEW, exploration={"share": 0.4}, pins={"p": {"item": "i11", "position": 2}})
    lists = many(rules, count=300)
    assert (lists.items[:, 1] == 11).all()
    assert (lists.propensities[:, 1] == 1).all()
    drawn = lists.origins == DRAWN
    assert torch.allclose(lists.propensities[drawn], torch.tensor(2 / 4 / 4, dtype=torch.float64))


def test_draws_follow_from_seed_user_and_moment_alone() -> None:
    rules = compiled(new=NEW, exploration={"share": 0.4})
    first = many(rules, count=100)
    assert torch.equal(first.items, many(rules, count=100).items)
    assert not torch.equal(first.items, many(replace(rules, seed=8), count=100).items)
    assert not torch.equal(first.items, many(replace(rules, as_of=rules.as_of + 86400), count=100).items)
    reverse = listed(rules, users(*[[] for _ in range(100)], index=list(range(100, 0, -1))), scores=falling(100))
    assert torch.equal(first.items, reverse.items.flip(0))


def test_strangers_are_told_apart_by_what_they_did() -> None:
    keys = user_keys(users([(1, 1.0)], [(1, 1.0)], [(2, 1.0)], [], index=[0, 0, 0, 0]))
    assert keys[0] == keys[1]
    assert len(set(keys.tolist())) == 3
    assert (keys < 0).all()


def test_the_smallest_lots_among_the_eligible_win() -> None:
    lots = torch.tensor([[5, 1, 3, 2]])
    eligible = torch.tensor([[True, False, True, True]])
    assert smallest(lots, eligible, torch.tensor([2])).tolist() == [[-1, -1, 1, 0]]
