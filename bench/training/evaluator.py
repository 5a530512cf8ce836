"""Judges every library's lists by one piece of code, which knows none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike


def mean_ndcg(
    lists: Mapping[int, ArrayLike], seen: Mapping[int, Sequence[int]], target: Mapping[int, int], k: int = 10
) -> float:
    """Mean NDCG@k over the users of `target`, one target each: 1 / log2(1 + rank), or 0 beyond rank k.

    `lists` are a user's items, best first. What the user has seen is dropped first, as are repeats and 0; a target that
    the user has seen before can therefore not be found. A user without a list counts 0.
    """
    gains = 0.0
    for user, item in target.items():
        passed = {0, *seen[user]}
        rank = 0
        for listed in np.asarray(lists.get(user, ())).tolist():
            if listed in passed:
                continue
            passed.add(listed)
            rank += 1
            if listed == item:
                gains += float(1 / np.log2(1 + rank))
            if listed == item or rank == k:
                break
    return gains / len(target) if target else 0.0


def read_lists(path: Path) -> dict[int, list[int]]:
    """A user's items, best first, of a file that `data.write_lists` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return dict(zip(file["users"].tolist(), file["items"].tolist(), strict=True))
