"""The small table on which fusions are searched: the union of the components' best items, with their scores.

M components, C candidates of one user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys_spark.fusion.normalise import mean_and_deviation, stable_topk


@dataclass(frozen=True)
class Candidates:
    """Candidates of U users, padded to C columns."""

    names: tuple[str, ...]
    """The M components."""
    scores: npt.NDArray[np.float32]
    """[U, C, M] raw scores; 0 in the padding."""
    present: npt.NDArray[np.bool_]
    """[U, C] is the column a candidate, or padding."""
    seen: npt.NDArray[np.bool_]
    """[U, C] does the user's history hold the item."""
    relevant: npt.NDArray[np.bool_]
    """[U, C] is the item relevant."""
    relevant_count: npt.NDArray[np.int64]
    """[U] relevant items, whether among the candidates or not."""
    relevant_seen: npt.NDArray[np.int64]
    """[U] relevant items that the history holds."""
    mean: npt.NDArray[np.float32]
    """[U, M] mean of each component's scores over the whole catalogue; over the candidates in a cascade, as below."""
    deviation: npt.NDArray[np.float32]
    """[U, M] their standard deviation."""
    log_sum_exp: npt.NDArray[np.float32]
    """[U, M, T] log-sum-exp of the z-scores at each temperature of the search."""
    can_score: npt.NDArray[np.bool_]
    """[U, M]."""
    events: npt.NDArray[np.int64] | None = None
    """[U] events of each history, where segments are asked for."""

    def of_users(self, users: npt.NDArray[np.bool_]) -> Candidates:
        """The candidates of some users, given by a mask [U]."""
        arrays = {name: value for name, value in vars(self).items() if name != "names" and value is not None}
        return replace(self, **{name: value[users] for name, value in arrays.items()})


class CandidateCollector:
    """Gathers a block's candidates while the components' scores pass by, one component at a time.

    Both the best items and the best that the history does not hold are candidates: under `drop` the former may all fall
    away. Relevant items are not added: beside those that no component finds, their equals would be missing, and the
    search would believe in fusions that bring them up.
    """

    def __init__(self, depth: int, temperatures: Sequence[float], seen: tuple[Tensor, Tensor]) -> None:
        self._depth = depth
        self._temperatures = temperatures
        self._seen = seen
        """Rows and codes of what the histories hold."""
        self._tops: list[tuple[Tensor, Tensor]] = []
        self.statistics: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.can_score: dict[str, Tensor] = {}

    def __call__(self, name: str, scores_BI: Tensor, can_score: Tensor) -> None:
        """Keep the best items and the statistics of one component."""
        mean, deviation = mean_and_deviation(scores_BI)
        standard = (scores_BI - mean) / deviation
        sums = torch.stack([torch.logsumexp(standard / t, dim=1) for t in self._temperatures], dim=1)
        self.statistics[name] = (mean, deviation, sums)
        self.can_score[name] = can_score
        standard[self._seen] = -torch.inf
        tops = torch.cat([stable_topk(scores_BI, self._depth), stable_topk(standard, self._depth)], dim=1)
        self._tops.append((tops, can_score))

    def union(self) -> list[npt.NDArray[np.int64]]:
        """Sorted codes of each user's candidates; a component that cannot score a user proposes nothing for them."""
        rows = next(iter(self.can_score.values())).numel()
        nothing = np.empty(0, dtype=np.int64)
        return [
            np.unique(np.concatenate([nothing, *(tops[b].numpy() for tops, can in self._tops if bool(can[b]))]))
            for b in range(rows)
        ]
