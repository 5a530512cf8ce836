from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from recsys_spark.models.affinity import Affinity, Decay, add_gathered
from recsys_spark.models.content import Content

CATEGORIES, BRANDS = [1, 1, 2, 2, 0], [1, 2, 1, 2, 1]
"""Of five items; the last one's category is not known."""
COUNTS = torch.tensor([3, 1, 4, 0, 7])


def content(categories: list[int], brands: list[int]) -> Content:
    size = len(categories) + 1
    return Content(
        categories_I=torch.tensor([0, *categories]),
        brands_I=torch.tensor([0, *brands]),
        price_bands_I=torch.zeros(size, dtype=torch.int64),
        texts_I=torch.zeros(size, dtype=torch.int64),
        words_TW=torch.zeros(1, 1, dtype=torch.int32),
    )


def affinity(*names: str, weights: tuple[float, ...], decay: Decay) -> Affinity:
    blank = Affinity.of(names, content(CATEGORIES, BRANDS), {"category": 2, "brand": 2}, COUNTS)
    return replace(blank, weights_A=torch.tensor(weights), decay=decay)


def rises(made: Affinity, histories: list[list[tuple[int, float]]]) -> torch.Tensor:
    """[B, I] of histories of (item, age)."""
    events = [(item, age, row) for row, history in enumerate(histories) for item, age in history]
    items, ages, rows = (torch.tensor([event[place] for event in events]) for place in range(3))
    table = made.table(items, ages.double(), rows, len(histories))
    return table[:, made.kinds[1]]


def test_the_shares_are_those_of_the_events_with_one_more_of_each_code():
    made = affinity("category", weights=(1.0,), decay=Decay(1.0, None))
    torch.testing.assert_close(made.shares[0], torch.tensor([8.0, 5.0, 5.0]) / 10)


def test_the_score_rises_by_the_log_of_the_users_share_over_everybodys():
    made = affinity("category", weights=(2.0,), decay=Decay(prior=4.0, half_life_days=None))
    ((first, same, other, _, unknown),) = rises(made, [[(0, 1.0), (1, 50.0), (2, 1.0)]]).tolist()
    share = 5 / 10
    assert first == same == pytest.approx(2 * math.log((2 / share + 4) / (3 + 4)))
    assert other == pytest.approx(2 * math.log((1 / share + 4) / (3 + 4)))
    assert unknown == 0


def test_an_old_event_counts_as_much_as_is_left_of_it():
    made = affinity("category", weights=(1.0,), decay=Decay(prior=1.0, half_life_days=10.0))
    ((first, _, other, *_),) = rises(made, [[(0, 20.0), (2, 0.0)]]).tolist()
    assert first == pytest.approx(math.log((0.25 / (5 / 10) + 1) / 2.25))
    assert other == pytest.approx(math.log((1.0 / (5 / 10) + 1) / 2.25))


def test_attributes_add_up_each_by_its_weight():
    decay, history = Decay(3.0, 30.0), [[(0, 2.0), (3, 9.0), (3, 1.0)], [(2, 4.0)]]
    both = rises(affinity("category", "brand", weights=(0.5, -2.0), decay=decay), history)
    parts = [rises(affinity(name, weights=(1.0,), decay=decay), history) for name in ("category", "brand")]
    torch.testing.assert_close(both, 0.5 * parts[0] - 2.0 * parts[1])


def test_without_events_of_known_codes_nothing_rises():
    made = affinity("category", weights=(1.0,), decay=Decay(5.0, None))
    assert rises(made, [[(4, 1.0)], [(0, 1.0)]])[0].tolist() == [0.0] * 5


def test_items_that_came_later_rise_as_those_of_their_codes_and_count_as_well():
    made = affinity("category", "brand", weights=(1.0, 1.0), decay=Decay(2.0, None))
    grown = made.extended(content([2, 1], [2, 1]))  # as the items 3 and 0
    history = [[(0, 1.0), (3, 2.0), (3, 3.0)]]
    before, after = rises(made, history), rises(grown, history)
    torch.testing.assert_close(after, torch.cat((before, before[:, [3, 0]]), dim=1))
    torch.testing.assert_close(rises(grown, [[(6, 1.0), (5, 2.0), (5, 3.0)]]), after)


def test_kept_in_a_bundle_it_is_the_same():
    made = affinity("brand", "category", weights=(0.5, 1.5), decay=Decay(2.0, None))
    again = Affinity.from_bundle(made.settings(), made.tensors())
    history = [[(0, 1.0), (3, 2.0)]]
    assert torch.equal(rises(again, history), rises(made, history))
    assert again.numbers() == {
        "affinity_brand": 0.5,
        "affinity_category": 1.5,
        "affinity_prior": 2.0,
        "affinity_half_life_days": None,
    }


def test_tables_are_added_at_each_items_kind():
    scores = torch.ones(2, 3)
    add_gathered(scores, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0, 1]))
    assert scores.tolist() == [[3.0, 2.0, 3.0], [5.0, 4.0, 5.0]]
