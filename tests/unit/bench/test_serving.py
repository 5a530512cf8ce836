"""The load generator: what is late because the service stalled is seen as late."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from bench.serving import FEW, measured, open_loop, questions

STALL = 0.4


@pytest.fixture
def stalling() -> Iterator[int]:
    """The port of a service that answers at once, but for the 20th request, at which all of it stands still."""
    loop, counted = asyncio.new_event_loop(), itertools.count(1)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            if next(counted) == 20:
                time.sleep(STALL)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(ended(asyncio.all_tasks(loop)))
    loop.close()


async def ended(waiting: set[asyncio.Task[None]]) -> None:
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def test_all_that_is_due_while_the_service_stands_still_is_late(stalling: int) -> None:
    asking = questions("stored", ["anna"], ["ale"])
    times, failed, _ = asyncio.run(open_loop(asking, stalling, rate=100.0, seconds=1.0))
    assert (len(times), failed) == (100, 0)
    # Of the 40 requests that are due within the stall half wait for longer than half of it; a caller that waits for its
    # answer before it asks again would have seen one.
    assert sum(each > STALL / 2 for each in times) >= 15


def test_percentiles_are_of_the_answers_in_order() -> None:
    found = measured("stored", 100.0, [place / 1000 for place in range(1, 101)], 3, 2.0)
    assert (found.p50_ms, found.p99_ms, found.largest_ms) == (51.0, 100.0, 100.0)
    assert (found.requests, found.failed, found.per_second) == (100, 3, 50.0)


def test_no_computed_question_is_asked_twice_before_all_pairs_are() -> None:
    users, items = [f"u{n}" for n in range(30)], [f"i{n}" for n in range(7)]
    asked = list(itertools.islice(questions("computed", users, items), 210))
    assert len(set(asked)) == 210
    few = set(itertools.islice(questions("cached", users, items), 100))
    assert len(few) == FEW
