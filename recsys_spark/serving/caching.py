"""Answers that are kept: least lately used go first, all go after a time, and a user's go with the user's next event.

All of it is used from the event loop alone, so there are no locks; work in other threads happens in between, and
`Reading` keeps what was read before an event from being kept after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import TTLCache

Answer = TypeVar("Answer")


@dataclass
class Kept(Generic[Answer]):
    """A kept answer."""

    answer: Answer
    made_from: Hashable
    """What was known of the user when it was made: while that is the same, so is the answer."""
    checked_at: float
    """When that was last looked at."""


class Reading(Generic[Answer]):
    """Someone makes an answer for a user; `spoiled` where an event of the user came meanwhile."""

    def __init__(self, cache: AnswerCache[Answer], user: str) -> None:
        self._cache = cache
        self.user = user
        self.spoiled = False

    def __enter__(self) -> Reading[Answer]:
        self._cache.readers.setdefault(self.user, set()).add(self)
        return self

    def __exit__(self, *failure: object) -> None:
        readers = self._cache.readers[self.user]
        readers.discard(self)
        if not readers:
            del self._cache.readers[self.user]

    def keep(self, key: Hashable, answer: Answer, made_from: Hashable) -> None:
        """Keep the answer, unless it was made without the newest event."""
        if not self.spoiled:
            self._cache.put(self.user, key, Kept(answer, made_from, self._cache.clock()))


class AnswerCache(Generic[Answer]):
    """Answers by user and key."""

    def __init__(self, size: int, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.readers: dict[str, set[Reading[Answer]]] = {}
        self._kept: TTLCache[tuple[str, Hashable], Kept[Answer]] = TTLCache(size, ttl_seconds, timer=clock)
        self._keys: dict[str, set[Hashable]] = {}
        self._noted = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, user: str, key: Hashable) -> Kept[Answer] | None:
        """What is kept, or None."""
        return self._kept.get((user, key))

    def put(self, user: str, key: Hashable, kept: Kept[Answer]) -> None:
        """Keep an answer."""
        self._kept[user, key] = kept
        self._keys.setdefault(user, set()).add(key)
        self._noted += 1
        if self._noted > 2 * self._kept.maxsize:  # most of the keys are of answers that went by age, or for others
            self._noted, self._keys = len(self._kept), {}
            for owner, name in self._kept:
                self._keys.setdefault(owner, set()).add(name)

    def reading(self, user: str) -> Reading[Answer]:
        """A context in which an answer for the user is made."""
        return Reading(self, user)

    def forget(self, users: Iterable[str]) -> None:
        """These users did something: what is kept of them goes, and what is being made of them will not be kept."""
        for user in users:
            for key in self._keys.pop(user, ()):
                self._kept.pop((user, key), None)
            for reading in self.readers.get(user, ()):
                reading.spoiled = True

    def clear(self) -> None:
        """Everything goes: another model answers now."""
        self._kept.clear()
        self._keys.clear()
        for readings in self.readers.values():
            for reading in readings:
                reading.spoiled = True
