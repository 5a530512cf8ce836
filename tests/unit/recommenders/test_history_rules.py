from __future__ import annotations

import torch

from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.history_rules import HistoryRules

VIEW, PURCHASE = 1, 4


def rules() -> HistoryRules:
    return HistoryRules("repurchase", torch.tensor([0.5, 0.25, 0.1, 0.9]), 10.0, (PURCHASE,))


def batch(events: list[tuple[int, int, float, float]]) -> UserBatch:
    """One user's (item, event type, weight, age in days)."""
    items, types, weights, ages = zip(*events, strict=True)
    return UserBatch(
        items=torch.tensor(items),
        event_types=torch.tensor(types),
        weights=torch.tensor(weights),
        ages=torch.tensor(ages),
        offsets=torch.tensor([0, len(events)]),
    )


def test_the_score_is_decayed_frequency_times_repeat_propensity():
    user = batch([(0, PURCHASE, 1.0, 20.0), (1, VIEW, 0.1, 0.0), (0, PURCHASE, 1.0, 10.0)])
    scores = rules().score(user).scores[0]
    torch.testing.assert_close(scores, torch.tensor([0.5 * (0.25 + 0.5), 0.25 * 0.1, 0.0, 0.0]))


def test_days_between_purchases_are_the_median_over_distinct_days_and_views_do_not_count():
    user = batch(
        [
            (0, PURCHASE, 1.0, 30.4),
            (0, PURCHASE, 1.0, 30.1),  # the same day again
            (0, VIEW, 0.1, 29.5),
            (0, PURCHASE, 1.0, 28.5),  # 2 days later
            (0, PURCHASE, 1.0, 20.5),  # 8 days later
            (0, PURCHASE, 1.0, 10.5),  # 10 days later
            (1, PURCHASE, 1.0, 9.5),
            (1, PURCHASE, 1.0, 4.5),  # 5 days later
            (3, PURCHASE, 1.0, 3.5),  # once
            (1, PURCHASE, 1.0, 2.5),  # 2 days later
        ]
    )
    evidence = rules().evidence(user, torch.tensor([[0, 1, 3, 2]]))
    assert evidence.items.tolist() == [[0, 1, 3, -1]]
    assert evidence.values[0, :2].tolist() == [8.0, 3.5]
    assert evidence.values[0, 2:].isnan().all()
