"""What a replay measured: means over steps, and paired bootstrap intervals of differences, drawn over users."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.replaying.lists import Quality
from bench.replaying.steps import Ints
from recsys_spark.evaluation.bootstrap import Quotients, poisson_weights, quotients, weighted_sums

REPLICATES = 2000
CONFIDENCE = 0.95


def means(found: Mapping[str, Quality], users: Ints, seed: int) -> dict[tuple[str, str, str], Quotients]:
    """The mean NDCG over steps by way of serving, list and mode, with its replicates."""
    distinct, row = np.unique(users, return_inverse=True)
    keys = np.array([_key(seed, user) for user in distinct.tolist()], dtype=np.uint64).astype(np.int64)
    weights = poisson_weights(keys, REPLICATES)
    made = {}
    for way, qualities in found.items():
        for (name, mode), value_S in qualities.items():
            counted = ~np.isnan(value_S)
            sums = [np.bincount(row, np.where(counted, part, 0.0), len(distinct)) for part in (value_S, counted * 1.0)]
            above, below = weighted_sums(weights, np.stack(sums, axis=1)).T.astype(np.float64)
            made[way, name, mode] = quotients(above, below)
    return made


def compared(of: Mapping[tuple[str, str, str], Quotients], way: str, against: str) -> list[dict[str, Any]]:
    """How much more one way of serving is worth than another, for each list and mode."""
    rows = []
    for name, mode in [key[1:] for key in of if key[0] == way]:
        if (against, name, mode) not in of:
            continue
        own, other = of[way, name, mode], of[against, name, mode]
        difference = own - other
        low, high = difference.interval(CONFIDENCE) or (float("nan"), float("nan"))
        rows.append(
            {
                "list": name,
                "repeats": mode,
                "way": way,
                "against": against,
                "ndcg_at_10": own.observed,
                "ndcg_at_10_against": other.observed,
                "difference": difference.observed,
                "low": low,
                "high": high,
                "p": difference.p_value(),
            }
        )
    return rows


def _key(seed: int, user: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{user}".encode(), digest_size=8).digest(), "little")
