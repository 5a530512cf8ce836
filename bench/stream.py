"""Events a second through the stream, and the delay from an event's file to the changed list.

    python -m recsys_spark.online publish --config conf/demo.yaml
    python bench/stream.py --config conf/demo.yaml --out bench/results/stream.json

Needs a workspace with a published model in its SQLite store. The job runs on a copy of the store, in a folder of its
own; the workspace is read alone. After a first micro-batch, which is not counted, `--files` files of `--events` events
each appear at once: events a second are theirs, from then until the store has the last. Then one file of one event
appears at a time, `--samples` times, at random moments: the delay is from its rename until the store gives the user's
list with the event in it. Users and items are drawn from the histories and the vocabulary.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recsys_spark.config import Config, load_config
from recsys_spark.errors import UserError
from recsys_spark.online.opening import SQLITE, open_store, store_url
from recsys_spark.online.store import OnlineStore
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.tables.batches import batches_of
from recsys_spark.tables.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 600.0
"""What is waited for at most."""


@dataclass
class Shop:
    """Whom and what events are of."""

    users: list[str]
    items: list[str]
    draw: random.Random
    number: int = 0

    def event(self) -> dict[str, Any]:
        """The next event, of now."""
        self.number += 1
        event_id = f"bench-{self.number:08d}"
        user, item = self.draw.choice(self.users), self.draw.choice(self.items)
        told = {"event_id": event_id, "user_id": user, "item_id": item, "event_type": "purchase"}
        return {**told, "event_time": time.time()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, action="append")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--events", type=int, default=50, help="of a file")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="recsys_spark-bench-") as folder:
            measured = measure(arguments, Path(folder))
    except UserError as error:
        print(f"bench/stream.py: {error}", file=sys.stderr)
        return 2
    print(table(measured))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the job in `folder` and time what it does."""
    config = load_config(arguments.config, arguments.overrides)
    store = copied_store(config, folder / "store.db")
    shop = shop_of(config, store, arguments.seed)
    events = folder / "events"
    events.mkdir()
    settings = {"workspace": folder, "online.store": f"{SQLITE}{folder / 'store.db'}", "stream.path": events}
    overrides = [*arguments.overrides, *(f"{key}={value}" for key, value in settings.items())]
    given = [part for path in arguments.config for part in ("--config", path)]
    given += [part for override in overrides for part in ("--set", override)]
    log = folder / "job.log"
    with log.open("w") as file:
        job = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / "update_online.py"), *given], stderr=file, stdout=subprocess.PIPE
        )
    try:
        put(events, "first", [shop.event() for _ in range(arguments.events)])
        wait(lambda: taken(folder, store) >= arguments.events, job, log)
        through = throughput(arguments, folder, store, shop, (job, log))
        delays = [delay(events, store, shop, number, (job, log)) for number in range(arguments.samples)]
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=120)
    finally:
        job.kill()
    return {
        "cores": os.cpu_count(),
        "users": len(shop.users),
        "items": len(shop.items),
        **through,
        "delay_seconds_median": round(statistics.median(delays), 3),
        "delay_seconds_p99": round(float(np.quantile(delays, 0.99)), 3),
        "delay_seconds_max": round(max(delays), 3),
        "delay_samples": len(delays),
        "trigger_seconds": config.stream.trigger_seconds,
    }


def copied_store(config: Config, target: Path) -> OnlineStore:
    """A copy of the workspace's SQLite store. Raises UserError where there is none, or nothing is published."""
    url = store_url(config)
    source = Path(url.removeprefix(SQLITE)).expanduser()
    if not url.startswith(SQLITE) or not source.is_file():
        raise UserError(f"{url}: no SQLite store; run python -m recsys_spark.online publish with this configuration")
    with sqlite3.connect(source) as one, sqlite3.connect(target) as other:
        one.backup(other)
    store = open_store(f"{SQLITE}{target}", config.online.ttl_days, config.online.max_history)
    if store.publication() is None:
        raise UserError(f"{url}: nothing is published; run python -m recsys_spark.online publish")
    return store


def shop_of(config: Config, store: OnlineStore, seed: int) -> Shop:
    """The users with histories, where there is a table of them, and the items of the published model."""
    publication = store.publication()
    assert publication is not None
    vocabulary = Vocabulary.load(next(Path(publication.model_path).glob("components/*/vocabulary.parquet")))
    commit = Workspace(config.workspace).latest("build_datasets")
    users = [f"bench-{number}" for number in range(1000)]
    if commit is not None:
        users = pq.read_table(commit.path("histories"), columns=["user_id"])["user_id"].to_pylist()
    return Shop(users, vocabulary.ids_of(np.arange(vocabulary.size)).to_pylist(), random.Random(seed))


def throughput(
    arguments: argparse.Namespace, folder: Path, store: OnlineStore, shop: Shop, job: tuple[subprocess.Popen[Any], Path]
) -> dict[str, Any]:
    """Many files at once."""
    first = max(store.batches())
    hidden = folder / "hidden"
    hidden.mkdir()
    for number in range(arguments.files):
        put(hidden, f"{number:05d}", [shop.event() for _ in range(arguments.events)])
    started = time.monotonic()
    for path in sorted(hidden.iterdir()):
        path.rename(folder / "events" / path.name)
    count = arguments.files * arguments.events
    wait(lambda: taken(folder, store, first) >= count, *job)
    seconds = time.monotonic() - started
    lists = 0
    for batch in batches_of(folder).after(first):
        lists += len(set(batch.table("live_events")["user_id"].to_pylist()))
    return {
        "events": count,
        "events_per_second": round(count / seconds, 1),
        "lists": lists,
        "lists_per_second": round(lists / seconds, 1),
        "micro_batches": max(store.batches()) - first,
        "seconds": round(seconds, 2),
    }


def delay(events: Path, store: OnlineStore, shop: Shop, number: int, job: tuple[subprocess.Popen[Any], Path]) -> float:
    """Seconds from a file's appearance until its user's list knows of the event."""
    time.sleep(shop.draw.uniform(0.2, 1.2))
    event = shop.event()
    user = event["user_id"]
    known = store.users([user]).get(user)
    before = known.events if known else 0
    put(events, f"one-{number:05d}", [event])
    started = time.monotonic()

    def changed() -> bool:
        state = store.users([user]).get(user)
        return state is not None and not state.stale and state.events > before

    wait(changed, *job)
    return time.monotonic() - started


def taken(folder: Path, store: OnlineStore, after: int = 0) -> int:
    """Rows of the micro-batches of higher numbers that the store has."""
    newest = max(store.batches(), default=0)
    return sum(batch.facts["rows"] for batch in batches_of(folder).after(after) if batch.number <= newest)


def put(folder: Path, name: str, events: list[dict[str, Any]]) -> None:
    """A file that appears whole."""
    hidden = folder / f".{name}"
    hidden.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    hidden.rename(folder / f"{name}.json")


def wait(condition: Callable[[], bool], job: subprocess.Popen[Any], log: Path) -> None:
    """Until it holds. Raises UserError where the job ends before, or it takes too long."""
    until = time.monotonic() + SECONDS
    while not condition():
        if job.poll() is not None or time.monotonic() > until:
            lines = log.read_text(encoding="utf-8").strip().splitlines()
            raise UserError(f"the job ended or hangs: {lines[-1] if lines else 'it said nothing'}")
        time.sleep(0.01)


def table(measured: dict[str, Any]) -> str:
    """One line a number."""
    return "\n".join(f"{name:24} {value:>12,}" for name, value in measured.items())


if __name__ == "__main__":
    sys.exit(main())
