"""The lock of a workspace, with real processes: one holds it, the dead lose it, who lost it publishes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recsys_spark.scheduling.holder import Holder, this_process
from recsys_spark.scheduling.lease import BusyError, Lease, LeaseLostError, Lock, held
from recsys_spark.tables.workspace import Workspace
from tests.unit.scheduling.holding import publish

HOLDING = str(Path(__file__).with_name("holding.py"))
ROOT = Path(__file__).resolve().parents[3]
ELSEWHERE = "another-boot/4026531836/1"
"""A process whose life nobody here can look at."""


class Other:
    """A process that wants the lock."""

    def __init__(self, root: Path, seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HOLDING, str(root), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def other_holder(root: Path, seconds: float) -> Iterator[Other]:
    """A process that has the lock."""
    other = Other(root, seconds)
    try:
        assert other.said() == "held"
        yield other
    finally:
        other.end()


def age(lock: Lock, seconds: float) -> None:
    """As if the newest claim had not been touched for so long."""
    then = time.time() - seconds
    os.utime(lock.path(lock.newest()), (then, then))


def published(root: Path) -> list[str]:
    return [commit.run_id for commit in Workspace(str(root)).history("s")]


def test_another_job_leaves_and_says_who_holds_the_lock_and_since_when(tmp_path: Path) -> None:
    with other_holder(tmp_path, 30) as other:
        other.ask("name abc")
        assert other.said() == "ok"
        who = rf"held by holding \(run abc, pid {other.process.pid} on .+\)"
        said = who + r" since \d{4}-.* UTC, last sign of life \d+ s ago"
        with pytest.raises(BusyError, match=said), held(tmp_path, "mine", 30):
            pass


def test_another_job_waits_as_long_as_it_may_and_then_has_the_lock(tmp_path: Path) -> None:
    told: list[str] = []
    with other_holder(tmp_path, 30) as other:
        assert other.process.stdin is not None
        threading.Timer(0.3, other.process.stdin.close).start()  # then it gives the lock back
        with held(tmp_path, "mine", 30, 20, told.append) as lease:
            lease.check()
    assert len(told) == 1
    assert told[0].startswith("waiting up to 20 s for holding (pid ")


def test_the_lock_of_a_killed_process_of_this_system_is_free_at_once(tmp_path: Path) -> None:
    with other_holder(tmp_path, 600) as other:
        os.kill(other.process.pid, signal.SIGKILL)  # and not waited for: a zombie is dead all the same
        until = time.monotonic() + 5
        while not isinstance(found := Lock(tmp_path).take(this_process("mine", 30)), Lease):
            assert time.monotonic() < until
            time.sleep(0.05)
        found.release()


def test_the_lock_of_a_dead_process_elsewhere_runs_out_with_its_lease(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    there = Holder("elsewhere", 1, "run_pipeline", "2024-01-01 00:00:00 UTC", 30.0, "t", ELSEWHERE)
    gone = lock.take(there)
    assert isinstance(gone, Lease)
    gone._done.set()  # it sends no sign of life any more
    gone._beats.join()
    age(lock, 29)
    assert not isinstance(lock.take(this_process("mine", 30)), Lease)
    age(lock, 31)
    taken = lock.take(this_process("mine", 30))
    assert isinstance(taken, Lease)
    with pytest.raises(LeaseLostError, match=r"taken over by mine \(pid"):
        gone.check()
    gone.release()  # which does not give away what is not its own any more
    assert not isinstance(lock.take(this_process("third", 30)), Lease)
    taken.release()


def test_a_holder_that_works_for_longer_than_its_lease_keeps_the_lock(tmp_path: Path) -> None:
    with held(tmp_path, "mine", 0.4) as lease:
        time.sleep(1.0)
        found = Lock(tmp_path).look()
        assert found is not None
        assert found.silent_seconds < 0.4
        lease.check()


def test_of_many_takers_of_a_lock_that_ran_out_one_wins(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    lock.claims.mkdir(parents=True)
    lock.path(7).write_text(Holder("elsewhere", 1, "old", "-", 5.0, "t", ELSEWHERE).to_json())
    age(lock, 10)
    takers = [Other(tmp_path, 30) for _ in range(3)]
    said = [taker.said().split()[0] for taker in takers]  # the one that has it keeps it meanwhile
    assert sorted(said) == ["BusyError:", "BusyError:", "held"]
    for taker in takers:
        taker.end()


def test_a_holder_that_was_asleep_publishes_nothing_after_its_lock_was_taken(tmp_path: Path) -> None:
    with other_holder(tmp_path, 0.5) as asleep:
        os.kill(asleep.process.pid, signal.SIGSTOP)
        time.sleep(0.8)
        with held(tmp_path, "mine", 30) as lease:
            asleep.ask("publish late")
            os.kill(asleep.process.pid, signal.SIGCONT)
            assert asleep.said().startswith("LeaseLostError: the lock of workspace")
            publish(lease, tmp_path, "mine")
    assert published(tmp_path) == ["mine"]


def test_a_holder_that_fell_asleep_between_its_last_look_and_the_commit_cannot_link_it(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    first = lock.take(Holder("elsewhere", 1, "first", "-", 30.0, "t", ELSEWHERE))
    assert isinstance(first, Lease)
    first._done.set()
    first._beats.join()
    look, looks = first.fence.check, 0

    def taken_over_after_the_look() -> None:
        nonlocal looks
        looks += 1
        look()
        if looks == 1:
            age(lock, 31)
            second = lock.take(this_process("second", 30))
            assert isinstance(second, Lease)
            second.release()

    object.__setattr__(first.fence, "check", taken_over_after_the_look)
    with pytest.raises(LeaseLostError):
        publish(first, tmp_path, "late")
    assert published(tmp_path) == []


def test_a_lock_that_was_given_back_is_free_and_tells_who_had_it(tmp_path: Path) -> None:
    with held(tmp_path, "first", 30):
        pass
    found = Lock(tmp_path).look()
    assert found is not None
    assert found.free
    assert found.holder.job == "first"
    with held(tmp_path, "second", 30):
        pass


def test_old_claims_are_removed_and_numbers_only_grow(tmp_path: Path) -> None:
    for _ in range(12):
        with held(tmp_path, "job", 30):
            pass
    lock = Lock(tmp_path)
    assert lock.newest() == 12
    assert len(list(lock.claims.iterdir())) <= 9
    assert list(lock.staging.iterdir()) == []
