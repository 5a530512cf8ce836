"""Off-policy estimates: by hand, and unbiased on a simulated logging policy."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_spark.evaluation.off_policy import Exposures, policy_sums, rewards

HOUR = 3600


def exposures(
    rows: list, items: list, propensities: list, ranks: list | None = None, times: list | None = None
) -> Exposures:
    return Exposures(
        np.array(rows),
        np.array(items),
        None if ranks is None else np.array(ranks),
        np.array(propensities, dtype=float),
        np.array(times if times is not None else [0] * len(rows)),
    )


def test_a_reward_is_a_target_event_of_the_user_and_item_within_the_hours() -> None:
    shown = exposures([0, 0, 0, 1, 0], [5, 5, 6, 5, 7], [1.0] * 5, times=[100, 50_000, 100, 100, 100])
    rows, items, times = np.array([0, 0, 1, 0]), np.array([5, 6, 5, 7]), np.array([100 + HOUR, 99, 101 + HOUR, 100])
    # In the last second; no later one; before it; a second too late; at once.
    assert rewards(shown, rows, items, times, HOUR).tolist() == [1, 0, 0, 0, 1]


def test_no_exposures_or_no_events_give_no_reward() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    assert rewards(exposures([], [], []), np.array([0]), np.array([1]), np.array([5]), HOUR).tolist() == []
    assert rewards(exposures([0], [1], [1.0]), nothing, nothing, nothing, HOUR).tolist() == [0]


def test_sums_with_ranks_by_hand() -> None:
    # The list is 4, 2, 9; shown were 4 at its place, 2 at another's, 9 at its own but beyond k = 2.
    shown = exposures([0, 0, 0], [4, 2, 9], [0.5, 0.1, 0.25], ranks=[1, 1, 3])
    found = policy_sums(shown, np.array([1.0, 1.0, 1.0]), np.array([[[4, 2, 9]]]), (2, 3), None)
    two, three = found[2], found[3]
    assert (two.exposures[0], two.weights.item(), two.rewards.item(), two.squares.item()) == (2, 2.0, 2.0, 4.0)
    assert (three.exposures[0], three.weights.item(), three.squares.item()) == (3, 6.0, 20.0)
    assert policy_sums(shown, np.ones(3), np.array([[[4, 2, 9]]]), (3,), 3.0)[3].weights.item() == 5.0


def test_sums_without_ranks_ask_for_one_of_the_first_k_at_random() -> None:
    shown = exposures([0, 0, 1], [4, 7, 4], [0.5, 0.5, 0.5])
    found = policy_sums(shown, np.array([1.0, 1.0, 0.0]), np.array([[[4, 2]], [[2, -1]]]), (2,), None)[2]
    assert found.weights.ravel().tolist() == [1 / (2 * 0.5), 0]
    assert found.rewards.ravel().tolist() == [1.0, 0]
    assert found.exposures.tolist() == [2, 1]


@pytest.mark.parametrize("ranked", [True, False])
def test_ips_and_snips_find_the_value_that_the_simulation_has(ranked: bool) -> None:
    """A logging policy that prefers some items, a known chance of reward for each user and item, and another policy."""
    random = np.random.default_rng(7)
    users, items, places, rounds = 300, 8, 2, 40
    chance = random.beta(1, 4, (users, items))
    propensity = random.dirichlet(np.ones(items), users) * 0.8 + 0.2 / items
    target = np.argsort(-chance + random.normal(0, 0.2, (users, items)), axis=1)[:, :places]
    truth = np.take_along_axis(chance, target, axis=1).mean()
    rows = np.repeat(np.arange(users), rounds * places)
    ranks = np.tile(np.arange(1, places + 1), users * rounds)
    shown = (random.random((len(rows), 1)) > np.cumsum(propensity[rows], axis=1)).sum(axis=1)
    shown = np.minimum(shown, items - 1)
    reward = (random.random(len(rows)) < chance[rows, shown]).astype(float)
    logged = Exposures(rows, shown, ranks if ranked else None, propensity[rows, shown], np.zeros(len(rows), dtype=int))
    sums = policy_sums(logged, reward, target[:, None, :], (places,), None)[places]
    n = sums.exposures.sum()
    ips, snips = sums.rewards.sum() / n, sums.rewards.sum() / sums.weights.sum()
    weights = sums.weights.sum() / n
    error = np.sqrt(sums.squares.sum()) / n  # an upper bound of the standard deviation of ips
    assert abs(ips - truth) < 4 * error
    assert abs(snips - truth) < 4 * error
    assert weights == pytest.approx(1, abs=0.1)
    naive = reward.mean()
    assert abs(naive - truth) > 4 * error  # what the logging policy earned says nothing of the other's value
