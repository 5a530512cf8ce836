"""Distances of histograms, against scipy and against what is known on paper."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, ks_2samp

from recsys_spark.monitoring.distances import (
    PSEUDO,
    coarse,
    deciles,
    histograms,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
)

COUNTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=12)


def pair(rows):
    both = np.array(rows, dtype=np.float64)
    return both[:, 0], both[:, 1]


@given(COUNTS)
def test_jensen_shannon_is_scipys(rows):
    counts, reference = pair(rows)
    if counts.sum() and reference.sum():
        assert jensen_shannon(counts, reference) == pytest.approx(jensenshannon(counts, reference, base=2), abs=1e-7)
    else:
        assert jensen_shannon(counts, reference) is None


@given(COUNTS)
def test_psi_is_the_sum_of_both_relative_entropies(rows):
    counts, reference = pair(rows)
    if counts.sum() and reference.sum():
        p, q = counts + PSEUDO, reference + PSEUDO
        assert psi(counts, reference) == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-9)


@given(COUNTS)
def test_kolmogorov_smirnov_is_scipys_on_the_bins(rows):
    counts, reference = pair(rows)
    if counts.sum() and reference.sum():
        values = np.arange(len(counts))
        expected = ks_2samp(np.repeat(values, counts.astype(int)), np.repeat(values, reference.astype(int)))
        assert kolmogorov_smirnov(counts, reference) == pytest.approx(expected.statistic, abs=1e-12)


def test_what_has_nothing_in_common_is_one_apart():
    assert jensen_shannon(np.array([5.0, 0.0]), np.array([0.0, 7.0])) == 1.0
    assert kolmogorov_smirnov(np.array([5.0, 0.0]), np.array([0.0, 7.0])) == 1.0


def test_the_psi_of_halves_that_became_three_to_one_is_known():
    large = 1e9  # so that the pseudo-count does not matter
    expected = 0.25 * math.log(1.5) - 0.25 * math.log(0.5)
    assert psi(np.array([0.75, 0.25]) * large, np.array([0.5, 0.5]) * large) == pytest.approx(expected)


def test_coarse_bins_hold_about_equal_parts_of_the_reference():
    reference = np.ones(100)
    bins = deciles(reference)
    assert coarse(reference, bins).tolist() == [10.0] * 10


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40))
def test_coarse_bins_keep_order_and_counts(counts):
    reference = np.array(counts, dtype=np.float64)
    bins = deciles(reference)
    merged = coarse(reference, bins)
    assert len(merged) <= 12
    assert (np.diff(bins) >= 0).all()
    assert (np.diff(bins) <= 1).all()
    assert merged.sum() == reference.sum()
    inside = bins[np.flatnonzero(reference)]
    assert (merged[inside] > 0).all()
    assert len(set(inside.tolist())) == np.count_nonzero(merged) <= 10


def test_what_is_beyond_the_reference_has_bins_of_its_own():
    reference = np.array([0.0, 0.0, 8.0, 0.0])
    assert deciles(reference).tolist() == [0, 0, 1, 2]


def test_histograms_share_their_bins():
    first, second = histograms([{3: 1, -1: 2}, {0: 5}])
    assert (first.tolist(), second.tolist()) == ([2, 0, 1], [0, 5, 0])


def test_histograms_of_names_share_them():
    counts, reference = histograms([{"b": 2}, {"a": 1, "b": 3}])
    assert (counts.tolist(), reference.tolist()) == ([0, 2], [1, 3])
