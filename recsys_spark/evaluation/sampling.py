"""Users to look at: drawn by the hash of their id, so that every run over the same users shows the same ones."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable


def smallest_hashes(batches: Iterable[Iterable[str]], count: int) -> list[str]:
    """The `count` ids with the smallest SHA-256, in its order; a batch and `count` ids are held, whatever comes."""
    smallest: list[tuple[str, str]] = []
    for ids in batches:
        hashed = [(hashlib.sha256(name.encode()).hexdigest(), name) for name in ids]
        smallest = heapq.nsmallest(count, [*smallest, *hashed])
    return [name for _, name in smallest]
