"""Off-policy estimates: what a model's lists would have earned, from exposures that another policy drew and logged.

An exposure e showed item i to user u (at rank r, where ranks are logged) with propensity p > 0; its reward is 1 where
the user had a target event with i within some hours. The model's list is the policy that is asked about: with ranks its
weight is w = 1[i stands at r] / p, over the exposures of ranks up to k; without, it shows one of its first k at random,
w = 1[i among the first k] / (k p). Then, over n exposures,

- ips: (1 / n) sum of w x reward (Horvitz and Thompson 1952): unbiased for the mean reward of an exposure where the
  logging policy shows everything that the list may show with p > 0 and p is the true one
- snips: sum of w x reward / sum of w (Swaminathan and Joachims 2015): biased by what vanishes as n grows, with less
  variance, and between the least and the largest reward
- ips_weight: sum of w / n; 1 in expectation, and well below where the logging policy never shows what the list does
- ips_sample: (sum of w)^2 / sum of w^2, the effective number of exposures (Kish 1965)

Weights above `clip` are cut to it. numpy, by blocks of users.
Legend: U users, L lists of a user, E exposures, K places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SMALLEST_PROPENSITY = 1e-6
"""A smaller one is refused: a single exposure would count as a million."""


@dataclass(frozen=True)
class Exposures:
    """Exposures of a block of users."""

    rows: Ints
    """[E] row 0 to U-1."""
    items: Ints
    """[E] item_index."""
    ranks: Ints | None
    """[E] from 1; None where they were not logged."""
    propensities: Floats
    """[E] in (0, 1]."""
    times: Ints
    """[E] epoch seconds."""


@dataclass(frozen=True)
class PolicySums:
    """Sums over the exposures of each user, for one k."""

    exposures: Floats
    """[U] how many count."""
    weights: Floats
    """[U, L]."""
    squares: Floats
    """[U, L] of the squared weights."""
    rewards: Floats
    """[U, L] of weights times rewards."""


def rewards(exposures: Exposures, rows: Ints, items: Ints, times: Ints, seconds: int) -> Floats:
    """[E] 1 where a target event (rows, items, times) of the exposure's user and item came up to `seconds` after it."""
    width = int(max(exposures.items.max(initial=0), items.max(initial=0))) + 1
    keys, place = np.unique(exposures.rows * width + exposures.items, return_inverse=True)
    wanted = rows * width + items
    found = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
    own = keys[found] == wanted if len(keys) else np.zeros(len(wanted), dtype=np.bool_)
    start = int(min(exposures.times.min(initial=2**62), times[own].min(initial=2**62)))
    end = int(max(exposures.times.max(initial=start), times[own].max(initial=start)))
    span = end - start + seconds + 1
    events = np.sort(found[own] * span + times[own] - start)
    at = place * span + exposures.times - start
    inside = np.searchsorted(events, at + seconds, side="right") > np.searchsorted(events, at, side="left")
    return inside.astype(np.float64)


def policy_sums(
    exposures: Exposures, reward: Floats, items: Ints, ks: Sequence[int], clip: float | None
) -> dict[int, PolicySums]:
    """For each k the sums, for the lists `items` [U, L, K] (-1 where a list has ended)."""
    users, _, length = items.shape
    found = {}
    for k in ks:
        if exposures.ranks is None:
            counts = np.ones(len(exposures.rows), dtype=np.bool_)
            matches = (items[exposures.rows, :, :k] == exposures.items[:, None, None]).any(axis=2) / k
        else:
            counts = exposures.ranks <= k
            at = items[exposures.rows, :, np.clip(exposures.ranks - 1, 0, length - 1)]
            matches = ((at == exposures.items[:, None]) & (counts & (exposures.ranks <= length))[:, None]).astype(float)
        weights = matches / exposures.propensities[:, None]
        if clip is not None:
            weights = np.minimum(weights, clip)
        found[k] = PolicySums(
            exposures=np.bincount(exposures.rows[counts], minlength=users).astype(np.float64),
            weights=_by_user(exposures.rows, weights, users),
            squares=_by_user(exposures.rows, weights * weights, users),
            rewards=_by_user(exposures.rows, weights * reward[:, None], users),
        )
    return found


def _by_user(rows: Ints, values: Floats, users: int) -> Floats:
    """[U, L] sums of [E, L] values."""
    lists = values.shape[1]
    place = rows[:, None] * lists + np.arange(lists)
    sums = np.bincount(place.ravel(), weights=values.ravel(), minlength=users * lists)
    return sums.astype(np.float64).reshape(users, lists)
