"""The online store under killed writers: what a reader finds is whole, whenever they died."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recsys_spark.online.opening import open_store
from recsys_spark.online.store import OnlineStore
from tests import redis_server

USERS = 1500
"""Several transactions of a publication."""
KILLS = 8
WRITER = f"""
import sys
from recsys_spark.online.events import LiveEvent
from recsys_spark.online.history import batch_event_id
from recsys_spark.online.opening import open_store
from recsys_spark.online.store import *

store = open_store(sys.argv[1], password=sys.argv[2] or None)
task = sys.argv[3]


def state(user, number):
    history = tuple(StoredEvent(batch_event_id(n), f"i{{n}}", "view", 1.0, float(n)) for n in range(number % 7 + 1))
    made = StoredList((ListRow(1, f"p{{number}}", 1.0, "", {{}}),), "m", number, events=len(history))
    return UserState(f"u{{user}}", history, made)


print("ready", flush=True)
while task == "publish":
    number = (lambda told: told.number if told else 0)(store.publication()) + 1
    told = Publication(number, "m", "/m", 1000.0, 1, "allow", 0.0)
    store.publish(told, (state(user, number) for user in range({USERS})))
    print("done", flush=True)
while task == "commit":
    batch = max(store.batches(), default=-1) + 1
    users = [f"u{{(batch + n) % {USERS}}}" for n in range(20)]
    events = {{user: StoredEvent(f"e{{batch}}-{{user}}", "live", "view", 1.0, 2000.0 + batch) for user in users}}
    number = store.publication().number
    lists = StoredList((ListRow(1, f"b{{batch}}", 1.0, "", {{}}),), "m", number, batch, source="stream")
    store.accept([LiveEvent(event.event_id, user, "live", "view", event.event_time) for user, event in events.items()])
    updates = [UserUpdate(user, (event,), lists) for user, event in events.items()]
    ids = [event.event_id for event in events.values()]
    store.commit(BatchCommit(batch, number, updates, {{"live": (batch + 1.0, 0.0)}}, b"%d" % batch, ids))
    print("done", flush=True)
"""


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A store's URL and password."""
    with ExitStack() as stack:
        if request.param == "redis":
            if redis_server.why_not() is not None:
                pytest.skip(redis_server.why_not() or "")
            server = stack.enter_context(redis_server.running())
            yield server.url, server.password
        else:
            yield f"sqlite:///{tmp_path}/store.db", ""


def killed(address: tuple[str, str], task: str, phase: float) -> None:
    """Let a writer finish one step, and kill it after this share of the time that the step took."""
    url, password = address
    command = [sys.executable, "-c", WRITER, url, password, task]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        started = time.monotonic()
        assert writer.stdout.readline() == b"done\n"
        time.sleep(phase * (time.monotonic() - started))
        assert writer.poll() is None, "a writer gave up"
        writer.kill()


def check_publication(store: OnlineStore) -> int:
    """The publication that serves is whole; returns its number."""
    told = store.publication()
    if told is None:
        return 0
    found = store.users([f"u{user}" for user in range(USERS + 1)])
    assert len(found) == USERS
    for state in found.values():
        assert state.list is not None
        assert state.list.publication == told.number
        assert state.list.source == "stream" or state.list.rows[0].item_id == f"p{told.number}"
        assert sum(event.event_id.startswith("#") for event in state.history) == told.number % 7 + 1
    return told.number


def check_batches(store: OnlineStore) -> int:
    """Of each committed batch everything is there, of any other nothing but what is pending; returns how many."""
    batches = store.batches()
    count = len(batches)
    assert batches == tuple(range(count))
    assert store.counts() == ({"live": (float(count), 0.0)} if count else {})
    assert store.parameters() == ((count, b"%d" % (count - 1)) if count else (0, None))
    for batch in range(max(0, count - 5), count + 2):
        names = [f"e{batch}-u{(batch + n) % USERS}" for n in range(20)]
        assert store.committed(names) == (set(names) if batch < count else set())
    return count


@pytest.mark.slow
def test_what_is_read_is_whole_whenever_the_writers_were_killed(address: tuple[str, str]) -> None:
    draw = random.Random(7)
    store = open_store(address[0], password=address[1] or None)
    numbers, counts = [], []
    for kill in range(KILLS):
        killed(address, "publish" if kill % 2 == 0 else "commit", 1.5 * draw.random())
        numbers.append(check_publication(store))
        counts.append(check_batches(store))
    assert numbers == sorted(numbers)
    assert counts == sorted(counts)
    assert numbers[-1] >= KILLS / 2
    assert counts[-1] >= KILLS / 2
    store.close()
