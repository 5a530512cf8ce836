"""The Poisson bootstrap over users (Chamandy, Muralidharan, Najmi and Naidu 2012): intervals and paired p-values.

In replicate b a user counts w times, w from Poisson(1) by a hash of the user and b: the replicate's sums are additive
over any parts of the users, and the same however these are divided. Every metric here is a quotient of two such sums.
Legend: U users, C columns, B replicates; row 0 of B + 1 rows is the observed sum, in which everybody counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, factorial

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
QUANTUM = 2.0**-30
"""What is summed is rounded to multiples of it. These are added as integers, so the order of users does not matter."""
MOST = 2.0**6
"""Values up to it, of up to 2**13 users at once with weights below 2**4, are added in doubles without rounding."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
LARGEST = 16
"""Poisson(1) is larger once in 4e14 draws."""
THRESHOLDS = np.array(
    [min(2**64 - 1, round(2**64 * sum(exp(-1) / factorial(n) for n in range(value + 1)))) for value in range(LARGEST)],
    dtype=np.uint64,
)


def poisson_weights(keys: Ints, replicates: int) -> Floats:
    """[B + 1, U] weights: ones, and then those of each replicate, a function of the user's key and its number alone.

    `keys` are 64-bit hashes of the seed and the user.
    """
    states = keys.astype(np.uint64)[None, :] + np.arange(1, replicates + 1, dtype=np.uint64)[:, None] * GOLDEN
    drawn = np.searchsorted(THRESHOLDS, _mixed(states).ravel(), side="right").reshape(states.shape)
    return np.concatenate([np.ones((1, len(keys))), drawn.astype(np.float64)])


def _mixed(states: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    states = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    states = (states ^ (states >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return states ^ (states >> np.uint64(31))


def weighted_sums(weights: Floats, values: Floats, quantum: float = QUANTUM) -> Ints:
    """[B + 1, C] sums of `values` [U, C] under `weights` [B + 1, U], in units of the quantum.

    Exact for values up to MOST in size and 2**13 users; beyond, the last of 53 bits may depend on the order.
    """
    return np.rint(weights @ np.rint(values / quantum)).astype(np.int64)


@dataclass(frozen=True)
class Quotients:
    """A metric's observed value and that of every replicate."""

    values: Floats
    """[B + 1]; NaN where nobody counts."""

    @property
    def observed(self) -> float:
        """The value with every user counted once."""
        return float(self.values[0])

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """The percentile interval over replicates; None without them, or where there is no value."""
        drawn = self.values[1:][~np.isnan(self.values[1:])]
        if not len(drawn) or np.isnan(self.observed):
            return None
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)

    def p_value(self) -> float | None:
        """Two-sided: twice the smaller share of replicates on one side of 0, with the observed value counted in.

        It falls below 1 - confidence where the interval leaves out 0. None without replicates.
        """
        drawn = self.values[1:][~np.isnan(self.values[1:])]
        if not len(drawn) or np.isnan(self.observed):
            return None
        smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        return min(1.0, 2 * (1 + smaller) / (1 + len(drawn)))

    def __sub__(self, other: Quotients) -> Quotients:
        """The paired difference: replicates are of the same users."""
        return Quotients(self.values - other.values)


def quotients(numerators: Floats, denominators: Floats, minus: float = 0.0) -> Quotients:
    """The quotients of [B + 1] sums, less a constant."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(denominators != 0, numerators / denominators, np.nan) - minus
    return Quotients(values)
