"""How fast the service answers: requests at a steady rate, whatever comes back, and the time from when each was due.

`python bench/serving.py --config FILE [--set a.b=c]... [--rate 200] [--seconds 20] [--json FILE]` starts the service
over the configured store and asks it, from one process, three kinds of questions: `cached` (a few users again and
again), `stored` (each user in turn: from the store) and `computed` (each user in turn with another item of the moment:
nothing kept can be given). It is an open loop: requests start when they are due, also while others are late, and a
request's time runs from when it was due, so that a service that stalls is seen stalling (no coordinated omission).
`--concurrency N` lets N callers ask as fast as they can instead, for requests a second.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from recsys_spark.config import Config, load_config
from recsys_spark.serving.page import offered_users

KINDS = ("cached", "stored", "computed")
FEW = 20
"""Users of `cached`."""
CONNECTIONS = 64
"""Connections that are kept open and shared."""
PATIENCE = 300.0
"""Seconds that the service has to start."""


@dataclass(frozen=True)
class Measured:
    """One kind of question at one rate."""

    kind: str
    rate: float | None
    """Requests a second that were due; None for as many as the callers could."""
    requests: int
    failed: int
    per_second: float
    """Answers a second."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    largest_ms: float


class Connections:
    """HTTP/1.1 connections to the service, kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.LifoQueue()
        for _ in range(CONNECTIONS):
            self._free.put_nowait(None)

    async def ask(self, request: bytes) -> int:
        """The status of the answer, once all of it is there; 0 where the connection broke."""
        connection = await self._free.get()
        try:
            reader, writer = connection or await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        except (OSError, asyncio.IncompleteReadError, StopIteration):
            self._free.put_nowait(None)
            return 0
        self._free.put_nowait((reader, writer))
        return int(head.split(b" ", 2)[1])


def questions(kind: str, users: Sequence[str], items: Sequence[str]) -> Iterator[bytes]:
    """Requests of a kind, without end."""
    for place, user in enumerate(itertools.cycle(users[:FEW] if kind == "cached" else users)):
        item = items[(place % len(users) + place // len(users)) % len(items)]
        query = f"?context={quote(item, safe='')}" if kind == "computed" else ""
        path = f"/v1/users/{quote(user, safe='')}/recommendations{query}"
        yield f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


async def open_loop(asking: Iterator[bytes], port: int, rate: float, seconds: float) -> tuple[list[float], int, float]:
    """Seconds from when each request was due to its answer, how many failed, and how long all of it took."""
    connections, times, failed = Connections(port), [], 0
    began = time.perf_counter()

    async def one(request: bytes, due: float) -> None:
        nonlocal failed
        failed += await connections.ask(request) != 200
        times.append(time.perf_counter() - due)

    waiting = []
    for place in range(int(rate * seconds)):
        due = began + place / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        waiting.append(asyncio.create_task(one(next(asking), due)))
    await asyncio.gather(*waiting)
    return times, failed, time.perf_counter() - began


async def closed_loop(
    asking: Iterator[bytes], port: int, callers: int, seconds: float
) -> tuple[list[float], int, float]:
    """The same where each caller asks again once it has its answer."""
    connections, times, failed = Connections(port), [], 0
    began = time.perf_counter()

    async def caller() -> None:
        nonlocal failed
        while (due := time.perf_counter()) < began + seconds:
            failed += await connections.ask(next(asking)) != 200
            times.append(time.perf_counter() - due)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return times, failed, time.perf_counter() - began


def items_of(port: int, users: Sequence[str]) -> list[str]:
    """Items of some users' lists, each once."""
    found: dict[str, None] = {}
    for user in users[:20]:
        url = f"http://127.0.0.1:{port}/v1/users/{quote(user, safe='')}/recommendations"
        with urllib.request.urlopen(url) as answer:
            found.update(dict.fromkeys(item["item_id"] for item in json.load(answer)["items"]))
    return list(found)


def measured(kind: str, rate: float | None, times: list[float], failed: int, took: float) -> Measured:
    """The numbers of a run."""
    ordered = sorted(1000 * each for each in times)

    def percentile(percent: float) -> float:
        return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]

    return Measured(
        kind, rate, len(times), failed, len(times) / took, percentile(50), percentile(95), percentile(99), ordered[-1]
    )


def started(options: argparse.Namespace, port: int) -> subprocess.Popen[bytes]:
    """The service, once it is ready."""
    command = [sys.executable, "-m", "recsys_spark.serving"]
    command += [word for path in options.config for word in ("--config", path)]
    own = [f"serving.port={port}", "serving.limits={requests_per_second: null}"]
    command += [word for setting in (*options.overrides, *own) for word in ("--set", setting)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
                return process
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise SystemExit("the service did not start; run python -m recsys_spark.serving with the same arguments to see why")


def run(options: argparse.Namespace, config: Config, port: int) -> list[Measured]:
    """All kinds, one after the other."""
    users = offered_users(Path(config.workspace).absolute(), options.users) or list(options.user)
    if not users:
        raise SystemExit("no histories in the workspace: name users by --user")
    items = items_of(port, users)
    found = []
    for kind in options.kinds:
        asking = questions(kind, users, items)
        asyncio.run(open_loop(asking, port, 20.0, 2.0))  # warm
        if options.concurrency:
            times, failed, took = asyncio.run(closed_loop(asking, port, options.concurrency, options.seconds))
        else:
            times, failed, took = asyncio.run(open_loop(asking, port, options.rate, options.seconds))
        found.append(measured(kind, None if options.concurrency else options.rate, times, failed, took))
        print(row(found[-1]), flush=True)
    return found


HEAD = (
    "| kind | due a second | answered a second | failed | p50 ms | p95 ms | p99 ms | largest ms |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def row(each: Measured) -> str:
    """A row of the table."""
    due = "as fast as possible" if each.rate is None else f"{each.rate:g}"
    numbers = (each.p50_ms, each.p95_ms, each.p99_ms, each.largest_ms)
    told = " | ".join(f"{number:.1f}" for number in numbers)
    return f"| {each.kind} | {due} | {each.per_second:.1f} | {each.failed} | {told} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, action="append")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each kind")
    parser.add_argument("--concurrency", type=int, default=0, help="callers that ask as fast as they can, instead")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--users", type=int, default=2000, help="users that are asked for, at most")
    parser.add_argument("--user", action="append", default=[], help="a user, where the workspace has no histories")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    config = load_config(options.config, options.overrides)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = started(options, port)
    print(HEAD)
    try:
        found = run(options, config, port)
    finally:
        service.terminate()
        service.wait()
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
