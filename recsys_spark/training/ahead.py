"""Items made in a thread while those before them are used."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Ahead(Iterator[T], Generic[T]):
    """Iterates over `make()`'s items, of which the thread makes at most `depth` more than were taken.

    The items and their order are those of `make()`; an error in it is raised where its item would have been taken.
    """

    def __init__(self, make: Callable[[], Iterator[T]], depth: int) -> None:
        self.waited = 0.0
        """Seconds that the taking side waited."""
        self._make = make
        self._made: queue.SimpleQueue[T | BaseException | None] = queue.SimpleQueue()
        self._allowed = threading.Semaphore(depth)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="steps-ahead", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        started = time.perf_counter()
        item = self._made.get()
        self.waited += time.perf_counter() - started
        if item is None:
            self._thread.join()
            self._made.put(None)
            raise StopIteration
        if isinstance(item, BaseException):
            self._made.put(None)
            raise item
        self._allowed.release()
        return item

    def close(self) -> None:
        """Ask the thread to end; where the items were not all taken it may still be making one."""
        self._closed = True
        self._allowed.release()

    def _run(self) -> None:
        # What is made ahead should not take the cores that the step itself computes on.
        torch.set_num_threads(1)
        try:
            items = self._make()
            while True:
                self._allowed.acquire()
                if self._closed:
                    return
                item = next(items, None)
                self._made.put(item)
                if item is None:
                    return
        except BaseException as error:  # raised on the other side
            self._made.put(error)
