"""The small table on which fusions are searched: the union of the components' best items, with their scores.

M components, C candidates of one user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys_spark.fusion.normalise import stable_topk


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
    """[U, M] mean of each component's scores over the whole catalogue."""
    deviation: npt.NDArray[np.float32]
    """[U, M] their standard deviation."""
    log_sum_exp: npt.NDArray[np.float32]
    """[U, M, T] log-sum-exp of the z-scores at each temperature of the search."""
    can_score: npt.NDArray[np.bool_]
    """[U, M]."""


class CandidateCollector:
    """Gathers a block's candidates while the components' scores pass by, one component at a time."""

    def __init__(self, depth: int, temperatures: Sequence[float]) -> None:
        self._depth = depth
        self._temperatures = temperatures
        self.tops: dict[str, Tensor] = {}
        self.statistics: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.can_score: dict[str, Tensor] = {}

    def __call__(self, name: str, scores_BI: Tensor, can_score: Tensor) -> None:
        """Keep the best items and the statistics of one component."""
        self.tops[name] = stable_topk(scores_BI, self._depth)
        deviation, mean = torch.std_mean(scores_BI, dim=1, correction=0)
        deviation = deviation.clamp_min(1e-12)
        standard = (scores_BI - mean[:, None]) / deviation[:, None]
        sums = torch.stack([torch.logsumexp(standard / t, dim=1) for t in self._temperatures], dim=1)
        self.statistics[name] = (mean, deviation, sums)
        self.can_score[name] = can_score

    def union(self, extra: Mapping[int, npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int64]]:
        """Sorted codes of each user's candidates: the components' best, and `extra` (the relevant items) by row.

        A component that cannot score a user proposes nothing for them.
        """
        rows = next(iter(self.can_score.values())).numel()
        return [
            np.unique(
                np.concatenate(
                    [top[b].numpy() for name, top in self.tops.items() if bool(self.can_score[name][b])]
                    + [extra.get(b, np.empty(0, dtype=np.int64))]
                )
            )
            for b in range(rows)
        ]
