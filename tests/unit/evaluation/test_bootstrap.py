"""The Poisson bootstrap: weights that are Poisson, sums that do not depend on order, intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recsys_spark.evaluation.bootstrap import Quotients, poisson_weights, quotients, weighted_sums


def keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**63), 2**63 - 1, count)


def replicated(values: np.ndarray, seed: int = 0, replicates: int = 1000) -> Quotients:
    weights = poisson_weights(keys(len(values), seed), replicates)
    sums = weighted_sums(weights, np.stack([values, np.ones(len(values))], axis=1)).astype(float)
    return quotients(sums[:, 0], sums[:, 1])


def test_weights_are_ones_and_then_poisson_draws_of_mean_one() -> None:
    weights = poisson_weights(keys(400), 500)
    assert (weights[0] == 1).all()
    drawn = weights[1:].ravel()
    counts = np.bincount(drawn.astype(int), minlength=8)
    expected = stats.poisson.pmf(np.arange(7), 1) * drawn.size
    observed = counts[:7]
    assert ((observed - expected) ** 2 / expected).sum() < stats.chi2.ppf(0.9999, 7)
    # Neighbouring replicates of a user, and neighbouring users, have nothing in common.
    assert abs(np.corrcoef(weights[1:-1].ravel(), weights[2:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(weights[1:, :-1].ravel(), weights[1:, 1:].ravel())[0, 1]) < 0.01


def test_weights_of_a_user_do_not_depend_on_the_others_or_on_the_number_of_replicates() -> None:
    own = keys(50)
    whole = poisson_weights(own, 20)
    assert (poisson_weights(own[7:9], 10) == whole[:11, 7:9]).all()


def test_sums_are_the_same_to_the_last_bit_however_users_are_divided() -> None:
    random = np.random.default_rng(4)
    values, weights = random.random((1000, 5)) * [1, 1, 1, 20, 60], poisson_weights(keys(1000), 200)
    whole = weighted_sums(weights, values)
    order = random.permutation(1000)
    parts = np.array_split(order, [13, 400, 401, 950])
    assert (sum(weighted_sums(weights[:, part], values[part]) for part in parts) == whole).all()
    np.testing.assert_allclose(whole[0] * 2.0**-30, values.sum(axis=0), atol=1e-6)


def test_intervals_are_near_those_of_scipys_bootstrap() -> None:
    values = np.random.default_rng(8).beta(0.4, 2, 600)
    low, high = replicated(values, replicates=4000).interval(0.95)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    spread = theirs.high - theirs.low
    assert abs(low - theirs.low) < 0.08 * spread
    assert abs(high - theirs.high) < 0.08 * spread


def test_intervals_cover_the_known_mean_as_often_as_they_say() -> None:
    """300 samples of 200 users from a population of mean 0.2: 90 % intervals, counted."""
    random = np.random.default_rng(11)
    covered = 0
    for sample in range(300):
        low, high = replicated(random.beta(0.5, 2.0, 200), seed=sample, replicates=300).interval(0.9)
        covered += low <= 0.2 <= high
    # 270 expected, a standard deviation of 5.2; percentile intervals of skewed values cover a little less.
    assert 250 <= covered <= 288


def test_p_values_are_uniform_where_there_is_no_difference_and_small_where_there_is() -> None:
    random = np.random.default_rng(12)
    found = []
    for sample in range(300):
        one, other = random.random(150), random.random(150)
        found.append((replicated(one, sample, 300) - replicated(other, sample, 300)).p_value())
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.09
    base = random.random(400)
    better = np.clip(base + 0.02 + random.normal(0, 0.05, 400), 0, 2)
    difference = replicated(better, 1) - replicated(base, 1)
    assert difference.p_value() == pytest.approx(2 / 1001)
    assert difference.interval(0.95)[0] > 0
    # Unpaired, the same difference drowns in what users have in common.
    apart = replicated(better, 1) - replicated(base, 2)
    assert apart.interval(0.95)[0] < 0


def test_equal_models_differ_by_nothing_and_no_replicates_mean_no_interval() -> None:
    values = np.random.default_rng(2).random(50)
    nothing = replicated(values) - replicated(values)
    assert (nothing.observed, nothing.interval(0.95), nothing.p_value()) == (0.0, (0.0, 0.0), 1.0)
    bare = replicated(values, replicates=0)
    assert bare.observed == pytest.approx(values.mean())
    assert bare.interval(0.95) is None
    assert bare.p_value() is None


def test_a_metric_that_nobody_has_is_not_a_number() -> None:
    assert np.isnan(quotients(np.zeros(3), np.zeros(3)).observed)
