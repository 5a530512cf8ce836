"""The stream, killed by SIGKILL wherever it happens to be: in the end everything is as if it never had been."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_spark.online.events import LiveEvent
from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.step import Learner, live_of_store, process_batch
from recsys_spark.online.store import OnlineStore, Publication, StoredEvent, UserState
from recsys_spark.streaming.sorting import live_events
from recsys_spark.tables.batches import BatchLog, batches_of
from tests.chaos.stream_driver import LEARNER
from tests.live_shop import (
    TRENDING_HALF_LIFE,
    WEIGHTS,
    batch_users,
    opened,
    published,
    random_lines,
    write_model,
)

ROOT = Path(__file__).parent.parent.parent
KILLS_OF_THE_BODY, KILLS_OF_THE_JOB = 45, 5
CONFIG = """
workspace: {folder}
source: {{format: csv, path: none.csv, columns: {{user_id: u, item_id: i, event_time: t}}, event_type: purchase}}
spark: {{master: "local[2]", driver_memory: 1g, shuffle_partitions: 2}}
stream: {{path: "{folder}/events", max_files: 2, lateness_hours: 100000, trigger_seconds: 0.1}}
online: {{ttl_days: 10000, learning: {{enabled: true, negatives: 4, step_events: 2, reservoir: 16}}}}
"""


def stocked(folder: Path) -> Publication:
    """A workspace with a published model and a place for events; returns the publication."""
    (folder / "events").mkdir(parents=True)
    publication = published(write_model(folder / "fitted"))
    store = opened(folder / "online" / "store.db")
    store.publish(publication, batch_users())
    store.close()
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
    return publication


def put(folder: Path, name: str, lines: Sequence[dict[str, Any]]) -> None:
    """A file of events, which appears whole."""
    hidden = folder / "events" / f".{name}"
    hidden.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    hidden.rename(folder / "events" / f"{name}.json")


def computed(lines: Sequence[dict[str, Any]]) -> tuple[dict[str, UserState], dict[str, float]]:
    """Histories and trending counts (decayed to each item's newest event) of all events at once."""
    unique = list({line["event_id"]: line for line in lines}.values())
    states = {state.user_id: state for state in batch_users()}
    for line in sorted(unique, key=lambda line: (line["event_time"], line["event_id"])):
        before = states.get(line["user_id"], UserState(line["user_id"]))
        event = LiveEvent(**{**line, "quantity": 1.0})
        states[line["user_id"]] = UserState(line["user_id"], (*before.history, StoredEvent.of(event, WEIGHTS)))
    counts = {}
    for item in {line["item_id"] for line in unique}:
        own = [(line["event_time"], WEIGHTS[line["event_type"]]) for line in unique if line["item_id"] == item]
        newest = max(time for time, _ in own)
        rate = TRENDING_HALF_LIFE * 86400.0
        counts[item] = math.fsum(weight * 0.5 ** ((newest - time) / rate) for time, weight in own)
    return states, counts


def replayed(folder: Path, publication: Publication, batches: BatchLog, learner: Learner) -> OnlineStore:
    """The store after the log's batches in their own boundaries, from the first publication on."""
    store = opened(folder / "replay.db")
    store.publish(publication, batch_users())
    live: LiveModel | None = live_of_store(store, publication, LiveModel.load)
    for batch in batches.after(0):
        step = process_batch(store, live, live_events(batch.table("live_events")), batch.number, learner)
        assert store.commit(step.commit)
        live = step.live
    return store


def check_everything(folder: Path, publication: Publication, lines: Sequence[dict[str, Any]]) -> None:
    batches, store = batches_of(folder), opened(folder / "online" / "store.db")
    states, counts = computed(lines)
    logged = list(batches.after(0))
    rows = sorted(row["event_id"] for batch in logged for row in batch.table("live_events").to_pylist())
    assert rows == sorted({line["event_id"] for line in lines})  # every event once
    assert [batch.number for batch in logged] == list(store.batches()) == list(range(1, len(logged) + 1))
    sums = {name: sum(batch.facts[name] for batch in logged) for name in ("rows", "accepted", "duplicates")}
    assert sums == {"rows": len(lines), "accepted": len(rows), "duplicates": len(lines) - len(rows)}

    found = store.users(sorted(states))
    assert {user: state.history for user, state in found.items()} == {user: s.history for user, s in states.items()}
    live = LiveModel.load(publication)
    for user, vectors in zip(sorted(states), live.vectors([states[user] for user in sorted(states)]), strict=True):
        np.testing.assert_allclose(found[user].vectors["als"], vectors["als"], rtol=1e-5)
    assert {item: count for item, (count, _) in store.counts().items()} == pytest.approx(counts)

    replay = replayed(folder, publication, batches, LEARNER)
    assert store.parameters()[1] is not None
    assert store.parameters() == replay.parameters()
    assert store.counts() == replay.counts()
    for user, state in replay.users(sorted(states)).items():
        mine, other = found[user].list, state.list
        assert mine is not None
        assert other is not None
        assert mine.rows == other.rows
        assert (mine.parameters, mine.events) == (other.parameters, other.events)


@pytest.mark.slow
def test_the_body_of_the_stream_killed_at_random_times_ends_as_a_batch_computation_and_a_replay_of_its_log(
    tmp_path: Path,
) -> None:
    publication = stocked(tmp_path)
    lines = random_lines(900, seed=4)
    for number, start in enumerate(range(0, len(lines), 3)):
        put(tmp_path, f"{number:05d}", lines[start : start + 3])
    command = [sys.executable, "-m", "tests.chaos.stream_driver", str(tmp_path), str(KILLS_OF_THE_BODY), "7"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert int(ended.stdout.split()[-1]) == KILLS_OF_THE_BODY
    check_everything(tmp_path, publication, lines)


class Job:
    """jobs/update_online.py in a process of its own."""

    def __init__(self, folder: Path, *more: str) -> None:
        command = [sys.executable, str(ROOT / "jobs" / "update_online.py"), "--config", str(folder / "config.yaml")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.log = folder / f"job-{time.monotonic_ns()}.log"
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, *more], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=file, text=True
            )

    def wait_for(self, condition: Callable[[], bool], seconds: float = 150.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def ended(self) -> tuple[int, dict[str, Any]]:
        lines = self.process.communicate(timeout=60)[0].splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_job_killed_at_random_times_ends_the_same_and_stops_gracefully_when_told(tmp_path: Path) -> None:
    publication = stocked(tmp_path)
    draw = random.Random(11)
    lines = random_lines(240, seed=5)
    portions = [lines[start : start + 6] for start in range(0, len(lines), 6)]
    a_part = math.ceil(len(portions) / (KILLS_OF_THE_JOB + 1))
    for kill in range(KILLS_OF_THE_JOB):
        for number in range(kill * a_part, min((kill + 1) * a_part, len(portions))):
            put(tmp_path, f"{number:05d}", portions[number])
        job = Job(tmp_path)
        job.wait_for(lambda job=job: job.said("stream of json started"))  # type: ignore[misc]
        time.sleep(draw.uniform(0.0, 4.0))
        job.process.send_signal(signal.SIGKILL)
        assert job.ended()[0] == -signal.SIGKILL
    for number in range(KILLS_OF_THE_JOB * a_part, len(portions)):
        put(tmp_path, f"{number:05d}", portions[number])
    job = Job(tmp_path)
    done = len(lines)
    job.wait_for(lambda: sum(batch.facts["rows"] for batch in batches_of(tmp_path).after(0)) == done)
    job.process.send_signal(signal.SIGTERM)
    code, told = job.ended()
    assert (code, told["status"], told["stopped"]) == (0, "done", True)
    check_everything(tmp_path, publication, lines)
