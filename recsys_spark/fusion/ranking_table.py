"""The table that trees are trained on: candidates of users of the valid window, with features and what was relevant.

A user may stand in it several times, once for each moment from which he is looked at. Legend: U users at a moment, N
candidates of all of them end to end, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recsys_spark.fusion.settings import Repeats


@dataclass(frozen=True)
class RankingTable:
    """Users in a fixed order; a user's candidates in the order of their codes."""

    names: tuple[str, ...]
    """The F features."""
    features: npt.NDArray[np.float32]
    """[N, F]."""
    lengths: npt.NDArray[np.int64]
    """[U] candidates of each user."""
    label: npt.NDArray[np.bool_]
    """[N] relevant in the days that make labels."""
    relevant: npt.NDArray[np.bool_]
    """[N] relevant in the whole window."""
    seen: npt.NDArray[np.bool_]
    """[N] does the user's history hold the item."""
    relevant_count: npt.NDArray[np.int64]
    """[U] relevant items, whether among the candidates or not."""
    relevant_seen: npt.NDArray[np.int64]
    """[U] relevant items that the history holds."""
    rivals: dict[Repeats, npt.NDArray[np.float64]]
    """[U] NDCG@K of the fusion to beat, for each mode of repeats; NaN where nothing is relevant in that mode, and at
    later moments than the first."""
    people: npt.NDArray[np.int64]
    """[U] number of the user: the same at each moment."""
    moments: npt.NDArray[np.int64]
    """[U] 0 for the start of the window, 1, 2, ... for later ones."""

    @cached_property
    def users(self) -> npt.NDArray[np.int64]:
        """[N] row of the user of each candidate."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def of_mode(self, repeats: Repeats) -> RankingTable:
        """The users with something to find in a mode, and under `drop` the items that their histories do not hold."""
        counts = self.relevant_count - (self.relevant_seen if repeats == "drop" else 0)
        users = counts > 0
        rows = users[self.users] & (~self.seen if repeats == "drop" else True)
        return RankingTable(
            names=self.names,
            features=self.features[rows],
            lengths=np.bincount(self.users[rows], minlength=len(users))[users],
            label=self.label[rows],
            relevant=self.relevant[rows],
            seen=self.seen[rows],
            relevant_count=counts[users],
            relevant_seen=self.relevant_seen[users] * (repeats != "drop"),
            rivals={repeats: self.rivals[repeats][users]},
            people=self.people[users],
            moments=self.moments[users],
        )

    def ndcg(self, scores: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
        """[U] NDCG@K of the candidates in the order of `scores` [N]; equals in the order of their codes."""
        order = np.lexsort((np.arange(len(scores)), -scores, self.users))
        starts = np.cumsum(self.lengths) - self.lengths
        ranks = np.arange(len(scores)) - starts[self.users]  # users are in order, before and after sorting
        gains = self.relevant[order] * (ranks < k) / np.log2(ranks + 2)
        found = np.bincount(self.users, gains, minlength=len(self.lengths))
        ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))[np.minimum(self.relevant_count, k) - 1]
        return np.asarray(found / ideal)
