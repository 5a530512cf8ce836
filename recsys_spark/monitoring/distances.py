"""How far two histograms over the same bins are apart: PSI, Jensen-Shannon distance and Kolmogorov-Smirnov statistic.

Histograms are counts [B]. A side without any count is no distribution: distances from it are None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]
Bin = TypeVar("Bin", int, str)
PSEUDO = 0.5
"""Added to each bin of both sides before PSI, in which an empty bin would be infinite (Jeffreys' prior)."""


def psi(counts: Counts, reference: Counts) -> float | None:
    """Population stability index: sum over bins of (p - q) ln(p / q), with PSEUDO added to each bin of both sides.

    It is Kullback and Leibler's symmetric divergence J (1951). By custom (Siddiqi, Credit Risk Scorecards, 2006) less
    than 0.1 is no change and more than 0.25 is a large one, over about ten bins. Of two samples of n and m from the
    same distribution over B bins it is about (B - 1)(1/n + 1/m).
    """
    if not counts.sum() or not reference.sum():
        return None
    p, q = _shares(counts + PSEUDO), _shares(reference + PSEUDO)
    return float(np.sum((p - q) * np.log(p / q)))


def jensen_shannon(counts: Counts, reference: Counts) -> float | None:
    """Jensen-Shannon distance: the square root of the divergence in bits, from 0 (the same) to 1 (nothing in common).

    With m = (p + q) / 2 the divergence is the mean of KL(p, m) and KL(q, m) (Lin, 1991); its root is a metric (Endres
    and Schindelin, 2003).
    """
    if not counts.sum() or not reference.sum():
        return None
    p, q = _shares(counts), _shares(reference)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(min(max(divergence, 0.0), 1.0)))


def kolmogorov_smirnov(counts: Counts, reference: Counts) -> float | None:
    """Largest difference of the two cumulative distributions, bins in rising order, from 0 to 1 (Smirnov, 1939).

    Taken at the bins' edges, it is at most that of the values themselves.
    """
    if not counts.sum() or not reference.sum():
        return None
    return float(np.max(np.abs(np.cumsum(_shares(counts)) - np.cumsum(_shares(reference)))))


def deciles(reference: Counts, parts: int = 10) -> npt.NDArray[np.int64]:
    """[B]: for each fine bin, in rising order, the number of the coarse one that it falls into: 0, 1, ...

    Between the reference's least and largest value there are at most `parts`, of about equal counts of it: one is
    closed as soon as it holds its part of what the ones before it left. What is below and what is above are two more.
    """
    some = np.flatnonzero(reference)
    bins = np.zeros(len(reference), dtype=np.int64)
    if not len(some):
        return bins
    number, held, left = int(some[0] > 0), 0.0, float(reference.sum())
    open_parts = parts
    for place in range(some[0], some[-1] + 1):
        bins[place] = number
        held += float(reference[place])
        if held and held >= left / max(open_parts, 1):
            number, open_parts, left, held = number + 1, open_parts - 1, left - held, 0.0
    bins[some[-1] + 1 :] = bins[some[-1]] + 1
    return bins


def coarse(counts: Counts, bins: npt.NDArray[np.int64]) -> Counts:
    """Counts [B] of fine bins added up into those that `bins` [B] names."""
    return np.bincount(bins, weights=counts, minlength=int(bins.max(initial=-1)) + 1).astype(np.float64)


def histograms(sides: Sequence[Mapping[Bin, int]]) -> list[Counts]:
    """Counts by the number or name of a bin as histograms over the same bins: those of all sides, in rising order."""
    bins = sorted({bin_ for side in sides for bin_ in side})
    return [np.array([side.get(bin_, 0) for bin_ in bins], dtype=np.float64) for side in sides]


def most_moved(counts: Mapping[str, int], reference: Mapping[str, int]) -> str:
    """The name whose share moved most, of equals the first by name: `view 80.0% to 91.2%`. Both sides have a count."""
    now, before = sum(counts.values()), sum(reference.values())
    moves = {name: counts.get(name, 0) / now - reference.get(name, 0) / before for name in {*counts, *reference}}
    most = max(sorted(moves), key=lambda name: abs(moves[name]))
    return f"{most} {reference.get(most, 0) / before:.1%} to {counts.get(most, 0) / now:.1%}"


def _shares(counts: Counts) -> Counts:
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def _relative_entropy(p: Counts, q: Counts) -> float:
    """KL(p, q) in bits, where q is positive wherever p is."""
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))
