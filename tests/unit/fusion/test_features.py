"""What the trees see of a candidate, against numbers counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_spark.fusion.features import ComponentScores, feature_names, feature_owners, features
from recsys_spark.recommenders.batch import UserBatch
from tests.stacking import PURCHASE, batch_of, plain_columns, viewed

NAMES = ("popularity", "repurchase")
NAN = torch.nan
COLUMNS = plain_columns(
    5,
    purchases=torch.tensor([9.0, 4.0, 0.0, 3.0, 1.0]),
    purchases_30=torch.tensor([5.0, 1.0, 0.0, 3.0, 0.0]),
    purchases_90=torch.tensor([9.0, 4.0, 0.0, 3.0, 1.0]),
    interval=torch.tensor([7.0, NAN, NAN, 4.0, NAN]),
    price=torch.tensor([2.0, 4.0, NAN, 1.0, 8.0]),
    category=torch.tensor([1, 1, 2, 0, 2]),
    title=torch.tensor([1, 1, 0, 1, 0]),
    buyers=torch.tensor([9.0, 3.0, 0.0, 1.0, 1.0]),
    new_14=torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0]),
    new_30=torch.tensor([4.0, 1.0, 0.0, 1.0, 0.0]),
    new_60=torch.tensor([6.0, 2.0, 0.0, 1.0, 0.0]),
)
BATCH = batch_of([[(0, 30.5), (1, 25.0), (0, 20.5), (1, 20.4), (0, 10.5)], [], [(3, 2.0), (4, 1.0)]])


def made(batch: UserBatch, users: list[int], items: list[int]) -> dict[str, list[float]]:
    """Features of pairs, by name."""
    count = len(users)
    nothing = ComponentScores(torch.zeros(count), torch.zeros(count), torch.ones(count), torch.ones(count).bool())
    table = features(
        batch,
        batch.event_types == PURCHASE,
        COLUMNS,
        dict.fromkeys(NAMES, nothing),
        torch.tensor(users),
        torch.tensor(items),
    )
    return dict(zip(feature_names(NAMES), table.T.tolist(), strict=True))


def test_every_feature_has_a_name_and_an_owner() -> None:
    assert len(feature_names(NAMES)) == len(feature_owners(NAMES)) == len(set(feature_names(NAMES)))
    owners = dict(zip(feature_names(NAMES), feature_owners(NAMES), strict=True))
    assert owners["own.due"] == "repurchase"
    assert owners["item.trend"] == "popularity"
    assert owners["user.visits"] == "context"
    assert set(feature_owners(("gru",))) == {"gru", "context"}


def test_purchases_of_the_item_are_counted_by_how_long_ago_they_were() -> None:
    found = made(BATCH, [0, 0, 0], [0, 1, 2])
    assert found["own.count"] == [3, 2, 0]
    assert found["own.count_7"] == [0, 0, 0]
    assert found["own.count_30"] == [2, 2, 0]
    assert found["own.idle"][:2] == pytest.approx([10.5, 20.4])
    assert found["own.since_first"][:2] == pytest.approx([30.5, 25.0])
    assert math.isnan(found["own.idle"][2])
    assert found["own.share"][:2] == pytest.approx([3 / 5, 2 / 5])


def test_an_item_is_due_by_the_users_own_interval_drawn_to_that_of_the_item() -> None:
    found = made(BATCH, [0, 0, 2], [0, 1, 3])
    assert found["own.interval"][0] == pytest.approx(10.0)  # two gaps of ten days
    assert found["own.due"][0] == pytest.approx(10.5 / ((2 * 10 + 7) / 3))
    assert found["own.due_item"][0] == pytest.approx(10.5 / 7)
    assert found["own.due"][1] == pytest.approx(20.4 / 4.6)  # the item has no interval of its own
    assert found["own.due"][2] == pytest.approx(2.0 / 4)  # one purchase: the item's interval alone
    assert math.isnan(found["own.interval"][2])


def test_visits_are_days_and_those_since_the_last_purchase_are_counted() -> None:
    found = made(BATCH, [0, 0], [0, 1])  # days 30, 25, 20 (twice) and 10
    assert found["user.visits"] == [4, 4]
    assert found["own.days"] == [3, 2]
    assert found["own.visits_since"] == [0, 1]
    assert found["own.due_visits"] == pytest.approx([0.0, 1 / (4 / 2)])


def test_views_are_no_purchases() -> None:
    found = made(viewed(BATCH, [1, 3]), [0, 0], [0, 1])
    assert found["own.count"] == [3, 0]
    assert found["own.others"] == [0, 2]
    assert found["own.others_idle"][1] == pytest.approx(20.4)
    assert found["user.purchases"] == [3, 3]


def test_categories_and_prices_are_compared_with_the_users_own() -> None:
    found = made(BATCH, [0, 2, 2, 1], [1, 2, 3, 0])
    assert found["category.share"][:2] == pytest.approx([1.0, 0.5])
    assert math.isnan(found["category.share"][2])  # the item has no category
    assert found["category.items"][:2] == [2, 1]
    assert found["item.price_ratio"][0] == pytest.approx(4.0 / ((3 * 2.0 + 2 * 4.0) / 5))
    assert math.isnan(found["item.price_ratio"][3])  # the user bought nothing


def test_what_is_new_to_a_user_is_told_by_items_of_the_same_title() -> None:
    """Titles: items 0, 1 and 3 are of one. User 0 bought 0 (days 30.5, 20.5, 10.5) and 1 (days 25.0, 20.4) of it."""
    found = made(BATCH, [0, 0, 2], [3, 2, 0])
    assert found["title.items"][:1] == [2]
    assert found["title.new_30"][:1] == [1]  # item 1; item 0 was new to him 30.5 days ago
    assert found["title.new_90"][:1] == [2]
    assert found["title.share"][:1] == [1.0]
    assert found["title.due"][0] == pytest.approx(10.5 / (20 / 3))  # days 30, 25, 20, 10
    assert found["title.price_ratio"][0] == pytest.approx(1.0 / ((3 * 2.0 + 2 * 4.0) / 5))
    assert math.isnan(found["title.share"][1])  # its title is its own
    share = 1.1 / (6 + 1)  # item 3 had one of the six new buyers of the last 30 days
    assert found["title.item_share"][0] == pytest.approx(math.log(share), abs=1e-6)
    taken = 0.5 ** (30.5 / 60) + 0.5 ** (25.0 / 60)
    prior = (9 + 1) / ((9 + 1) + (0 + 1))  # of the new buyers of 60 days: nine in the title, none without one
    rate = (taken + 20 * prior) / (taken + 20)
    assert found["title.expected"][0] == pytest.approx(math.log(rate * share), abs=1e-5)
    assert found["user.new_30"][0] == 1


def test_new_buyers_of_an_item_are_those_who_never_had_it() -> None:
    found = made(BATCH, [0], [0])
    assert found["item.new_30"] == pytest.approx([math.log(5)])
    assert found["item.new_trend"] == pytest.approx([math.log(2 / (5 * 14 / 46 + 1))], abs=1e-6)
    assert found["item.take_up"] == pytest.approx([math.log(5 / 10)], abs=1e-6)


def test_the_trend_is_of_the_last_month_against_the_two_before() -> None:
    found = made(BATCH, [0, 0], [0, 1])
    assert found["item.trend"] == pytest.approx([math.log(6 / 3), math.log(2 / 2.5)], abs=1e-6)
    assert found["item.purchases"] == pytest.approx([math.log(10), math.log(5)])


def test_users_without_history_have_nothing_but_the_items() -> None:
    found = made(BATCH, [1], [0])
    assert found["user.purchases"] == [0]
    assert all(math.isnan(found[name][0]) for name in ("user.idle", "user.visit_gap", "own.due"))


def test_a_batch_sees_what_its_users_see_alone() -> None:
    users, items = [0, 0, 1, 2, 2], [0, 1, 3, 3, 4]
    together = made(BATCH, users, items)
    for place, (user, item) in enumerate(zip(users, items, strict=True)):
        alone = made(BATCH.rows(user, user + 1), [0], [item])
        for name, values in together.items():
            assert torch.equal(torch.tensor([values[place]]).nan_to_num(-7), torch.tensor(alone[name]).nan_to_num(-7))
