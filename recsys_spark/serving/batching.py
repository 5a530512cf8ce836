"""Lists that wait together are computed together.

A list alone costs mostly the calls, hundreds of them, and not the numbers; in a batch they are shared. Nothing waits
for company: while one batch is computed the next one gathers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.store import StoredList, UserState
from recsys_spark.serving.champion import Champion
from recsys_spark.serving.errors import OverloadedError


@dataclass(frozen=True)
class Waiting:
    """A list that is asked for."""

    champion: Champion
    state: UserState
    k: int
    made: asyncio.Future[StoredList]

    def goes_with(self, other: Waiting) -> bool:
        """Can both be made by one call."""
        return self.champion is other.champion and self.k == other.k


class ListMaker:
    """Makes lists in `threads` threads, up to `batch_size` at a time in each. Used from the event loop alone."""

    def __init__(self, threads: int, batch_size: int, waiting: int, torch_threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "lists", initializer=torch.set_num_threads, initargs=(torch_threads,))
        self._free = threads
        self._batch_size = batch_size
        self._most = waiting
        self._queue: deque[Waiting] = deque()
        self._working: set[asyncio.Task[None]] = set()

    async def make(self, champion: Champion, state: UserState, k: int) -> StoredList:
        """The user's list. Raises OverloadedError where too many wait."""
        if len(self._queue) >= self._most:
            raise OverloadedError
        waiting = Waiting(champion, state, k, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._work())
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        return await waiting.made

    def close(self) -> None:
        """Start nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._make(self._next())
        finally:
            self._free += 1

    def _next(self) -> list[Waiting]:
        """Those at the head that can be made together."""
        batch = [self._queue.popleft()]
        while self._queue and len(batch) < self._batch_size and self._queue[0].goes_with(batch[0]):
            batch.append(self._queue.popleft())
        return batch

    async def _make(self, batch: list[Waiting]) -> None:
        batch = [waiting for waiting in batch if not waiting.made.done()]  # some callers have gone
        if not batch:
            return
        live, states, k = batch[0].champion.live, [waiting.state for waiting in batch], batch[0].k
        try:
            lists = await asyncio.get_running_loop().run_in_executor(self._pool, _lists, live, states, k)
        except Exception as error:
            for waiting in batch:
                if not waiting.made.done():
                    waiting.made.set_exception(error)
            return
        for waiting, made in zip(batch, lists, strict=True):
            if not waiting.made.done():
                waiting.made.set_result(made)


def _lists(live: LiveModel, states: Sequence[UserState], k: int) -> list[StoredList]:
    """The lists; without what torch does for gradients, which is a tenth of the time."""
    with torch.inference_mode():
        return live.lists(states, k)
