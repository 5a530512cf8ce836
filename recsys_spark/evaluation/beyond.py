"""Beyond accuracy: what lists are like, whether or not anybody wanted what is in them. numpy, by blocks of users.

For a list cut at K with items i, and popularity p(i), the share of the users with a target event before the window who
had one with i:

- novelty: mean of -log2 p(i), in bits (Zhou et al. 2010; Vargas and Castells 2011)
- popularity: mean of p(i) (ARP; Yin et al. 2012)
- popularity lift: mean over users of a list's popularity, against that of their own history's distinct items: the first
  over the second, less 1 (Abdollahpouri et al. 2020)
- diversity: mean over pairs of 1 - similarity, the cosine of two items' vectors (Ziegler et al. 2005), or 1 where they
  share a category and 0 where not; items without a vector or category are in no pair
- calibration: KL(p || (1 - a) q + a p) with a = 0.01, p the categories' shares in the user's target events before the
  window, q those in the list; natural logarithm, 0 is best (Steck 2018)

A list that a measure does not apply to (no list, fewer than two items, no history) is left out of its mean.
Legend: U users, L lists of a user, K places, D dimensions; items are -1 where a list has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys_spark.evaluation.item_facts import ItemFacts

SMOOTHING = 0.01
"""Steck's alpha."""
CELLS = 1 << 22
"""Doubles that a block of vectors or pairs may have."""
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def list_means(items: Ints, values: Floats, ks: Sequence[int]) -> dict[int, Floats]:
    """For each k the [U, L] mean of `values` [I] over the first k items [U, L, K] of each list; 0 for an empty one."""
    there = items >= 0
    sums = np.cumsum(np.where(there, values[items], 0.0), axis=2)
    count = np.cumsum(there, axis=2)
    return {k: sums[:, :, _last(items, k)] / np.maximum(count[:, :, _last(items, k)], 1) for k in ks}


def diversity(items: Ints, facts: ItemFacts, ks: Sequence[int]) -> dict[int, tuple[Floats, Bools]]:
    """For each k the [U, L] mean dissimilarity over the pairs of the first k items, and whether there is a pair."""
    found: dict[int, list[tuple[Floats, Bools]]] = {k: [] for k in ks}
    width = items.shape[2] if facts.vectors is None else facts.vectors.shape[1]
    step = max(1, CELLS // max(1, items.shape[1] * items.shape[2] * width))
    for start in range(0, max(1, len(items)), step):
        part = items[start : start + step]
        for k in ks:
            found[k].append(_by_category(part, facts, k) if facts.vectors is None else _by_vector(part, facts, k))
    return {
        k: (np.concatenate([v for v, _ in each]), np.concatenate([has for _, has in each])) for k, each in found.items()
    }


def _by_vector(items: Ints, facts: ItemFacts, k: int) -> tuple[Floats, Bools]:
    """The sum over pairs of v.w is half of what |sum of v|^2 is more than the sum of |v|^2."""
    assert facts.vectors is not None
    vectors = np.where(items[:, :, :k, None] >= 0, facts.vectors[items[:, :, :k]], 0.0).astype(np.float64)
    squares = (vectors * vectors).sum(axis=3)
    count = (squares > 0).sum(axis=2)
    total = vectors.sum(axis=2)
    together = (total * total).sum(axis=2) - squares.sum(axis=2)
    pairs = count * (count - 1)
    return np.where(pairs > 0, 1.0 - together / np.maximum(pairs, 1), 0.0), pairs > 0


def _by_category(items: Ints, facts: ItemFacts, k: int) -> tuple[Floats, Bools]:
    codes = np.where(items[:, :, :k] >= 0, facts.category[items[:, :, :k]], -1)
    count = (codes >= 0).sum(axis=2)
    same = ((codes[:, :, :, None] == codes[:, :, None, :]) & (codes >= 0)[:, :, :, None]).sum(axis=(2, 3)) - count
    pairs = count * (count - 1)
    return np.where(pairs > 0, 1.0 - same / np.maximum(pairs, 1), 0.0), pairs > 0


def calibration(
    items: Ints, event_rows: Ints, event_items: Ints, facts: ItemFacts, ks: Sequence[int]
) -> dict[int, tuple[Floats, Bools]]:
    """For each k the [U, L] KL divergence of a list's categories from its user's, and whether both have categories.

    `event_rows` (0 to U-1) and `event_items` are the users' target events before the window, each as often as it was.
    """
    users, lists, _ = items.shape
    coded = facts.category[event_items]
    keys, counts = np.unique(event_rows[coded >= 0] * facts.categories + coded[coded >= 0], return_counts=True)
    row = keys // max(1, facts.categories)
    own = counts / np.bincount(row, weights=counts, minlength=users)[row]
    codes = np.where(items >= 0, facts.category[items], -1)
    wanted = codes + np.arange(users)[:, None, None] * facts.categories
    place = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
    shared = (codes >= 0) & (keys[place] == wanted) if len(keys) else np.zeros(items.shape, dtype=np.bool_)
    found = {}
    for k in ks:
        _, list_, _ = np.nonzero(shared[:, :, :k])
        in_list = np.bincount(
            list_ * len(keys) + place[:, :, :k][shared[:, :, :k]], minlength=lists * len(keys)
        ).reshape(lists, len(keys))
        count = (codes[:, :, :k] >= 0).sum(axis=2)
        shares = in_list / np.maximum(count[row].T, 1)
        terms = own * np.log(own / ((1 - SMOOTHING) * shares + SMOOTHING * own))
        divergence = np.zeros((users, lists))
        for list_number in range(lists):
            divergence[:, list_number] = np.bincount(row, weights=terms[list_number], minlength=users)
        has = (count > 0) & (np.bincount(row, minlength=users) > 0)[:, None]
        found[k] = (np.where(has, divergence, 0.0), has)
    return found


def _last(items: Ints, k: int) -> int:
    return min(k, items.shape[2]) - 1
