"""A job is ended at its limit, and by SIGTERM, wherever it stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_spark.scheduling.limits import TimedOut, ended_within

ROOT = Path(__file__).resolve().parents[3]
BEGIN = """
import signal, socket, sys, time
from recsys_spark.scheduling.limits import Ended, limited, stoppable
told = []
def last_words(error): print("last words:", error, flush=True)
def cancel(): told.append("cancel")
"""


def start(text: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", BEGIN + text], stdout=subprocess.PIPE, text=True, env=environment)


def test_a_call_that_waits_is_ended_at_the_limit_and_tidied_up() -> None:
    process = start("""
a, b = socket.socketpair()
try:
    with limited(0.2 / 60, cancel, last_words):
        try:
            try:
                a.recv(1)
            except Exception:
                print("swallowed")
        finally:
            print("tidy")
except Ended as error:
    print(error.status, error)
time.sleep(0.2)
print(told)
""")
    out = process.communicate(timeout=60)[0].splitlines()
    limit = "timed_out stopped at its time limit of 0.00333333 minutes (schedule.limit_minutes)"
    assert out == ["tidy", limit, "['cancel']"]
    assert process.returncode == 0


def test_one_that_does_not_end_all_the_same_is_ended_with_its_process() -> None:
    process = start("""
with limited(0.1 / 60, cancel, last_words, grace=0.4):
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
""")
    out = process.communicate(timeout=60)[0].splitlines()
    assert out[-1].startswith("last words: stopped at its time limit")
    assert process.returncode == 1


def test_a_job_within_its_limit_is_left_alone() -> None:
    process = start("""
for _ in range(20):
    with limited(0.02 / 60, cancel, last_words):
        pass
time.sleep(0.1)
with limited(None, cancel, last_words):
    print("whole")
""")
    assert process.communicate(timeout=60)[0] == "whole\n"
    assert process.returncode == 0


def test_sigterm_stops_a_job_where_it_stands() -> None:
    process = start("""
try:
    with stoppable():
        print("ready", flush=True)
        time.sleep(60)
except Ended as error:
    print(error.status, error)
print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
""")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0].splitlines() == ["stopped stopped by SIGTERM", "True"]


def tidied_up_badly(end: TimedOut) -> None:
    """What tidies up after the end fails, as a call of Spark does where the one before it was cut off."""
    try:
        try:
            raise end
        finally:
            raise KeyError("p")
    except KeyError as error:
        raise RuntimeError("not stopped") from ValueError(str(error))


def test_an_end_is_known_behind_the_fault_that_tidying_up_met() -> None:
    end = TimedOut("stopped")
    with pytest.raises(RuntimeError) as caught:
        tidied_up_badly(end)
    assert ended_within(caught.value) is end
    assert ended_within(KeyError("p")) is None
