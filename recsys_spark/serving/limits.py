"""Rate limits: a token bucket for each caller, in bounded memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from cachetools import LRUCache

CALLERS = 100_000
"""Callers that are remembered; who comes back after so many others begins with a full bucket."""


class RateLimit:
    """Each caller has `burst` tokens, and `per_second` of them grow back; a request takes one."""

    def __init__(self, per_second: float | None, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(CALLERS)

    def wait(self, caller: str) -> int:
        """0 where the request may pass; else the whole seconds after which the next one may."""
        if self._per_second is None:
            return 0
        now = self._clock()
        tokens, before = self._buckets.get(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - before) * self._per_second)
        if tokens < 1:
            self._buckets[caller] = (tokens, now)
            return max(1, math.ceil((1 - tokens) / self._per_second))
        self._buckets[caller] = (tokens - 1, now)
        return 0
