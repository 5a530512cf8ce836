"""What was relevant: the distinct target items of a user's fold, as the evaluation defines them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.recommenders.histories import HistoryBlock


@dataclass(frozen=True)
class Targets:
    """Target events of one fold, as sorted distinct pairs."""

    users: npt.NDArray[np.int64]
    """[R] row 0..B-1."""
    items: npt.NDArray[np.int64]
    """[R] global item indices."""


def target_pairs(events: HistoryBlock, fold: int, target_events: Sequence[str]) -> Targets:
    """Distinct (user, item) pairs of the fold's target events."""
    wanted = [code for code, name in enumerate(EVENT_TYPES) if name in target_events]
    chosen = (events.folds == fold) & np.isin(events.event_types, wanted)
    pairs = np.unique(np.stack([events.users[chosen], events.items[chosen]], axis=1), axis=0)
    return Targets(pairs[:, 0], pairs[:, 1])
