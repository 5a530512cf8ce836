"""Kills executors of a job while they work, one in each stage, and reads from Spark's event log what became of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BACKEND = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
LOOK_SECONDS = 0.02
SETTLE_SECONDS = 0.3
"""The driver knows by then which tasks an executor had ended when it was stopped."""


@dataclass(frozen=True)
class Aim:
    """When to kill."""

    description: str
    """How the description of the Spark job begins in which an executor shall die."""
    ready: Callable[[], bool] = lambda: True
    """What must hold besides."""


@dataclass(frozen=True)
class Kill:
    """An executor that was killed."""

    description: str
    executor: str
    pythons: tuple[str, ...]
    """The programs of the Python processes that it had started."""


class Killer(threading.Thread):
    """Kills an executor for each aim, in their order: first it is stopped, and killed if a task of the job is in it."""

    def __init__(self, ui_port: int, groups: Sequence[int], aims: Sequence[Aim]) -> None:
        super().__init__(name="killer", daemon=True)
        self.kills: list[Kill] = []
        self._page = f"http://127.0.0.1:{ui_port}/api/v1/applications"
        self._groups = set(groups)
        self._aims = aims
        self._over = threading.Event()

    def run(self) -> None:
        for aim in self._aims:
            while not self._over.wait(LOOK_SECONDS):
                kill = self._try(aim)
                if kill is not None:
                    self.kills.append(kill)
                    break

    def stop(self) -> None:
        """The job has ended."""
        self._over.set()
        self.join()

    def _try(self, aim: Aim) -> Kill | None:
        if not self._runs(aim) or not aim.ready():
            return None
        for executor in self._busy():
            pid = self._pid(executor)
            if pid is None:
                continue
            folder = Path(os.readlink(f"/proc/{pid}/cwd"))
            os.kill(pid, signal.SIGSTOP)
            time.sleep(SETTLE_SECONDS)
            if self._runs(aim) and executor in self._busy():
                pythons = tuple(child for child in children(pid) if "python" in Path(child).name)
                os.kill(pid, signal.SIGKILL)
                sweep(folder)
                return Kill(aim.description, executor, pythons)
            os.kill(pid, signal.SIGCONT)
        return None

    def _runs(self, aim: Aim) -> bool:
        return any(job.get("description", "").startswith(aim.description) for job in self._get("jobs?status=running"))

    def _busy(self) -> list[str]:
        """Executors in which tasks run."""
        return [each["id"] for each in self._get("executors") if each["activeTasks"] and each["id"] != "driver"]

    def _get(self, what: str) -> list[dict[str, Any]]:
        try:
            (application,) = read_json(self._page)
            answer: list[dict[str, Any]] = read_json(f"{self._page}/{application['id']}/{what}")
            return answer
        except (OSError, ValueError):  # not there yet, or not any more
            return []

    def _pid(self, executor: str) -> int | None:
        for pid, words in processes():
            if BACKEND in words and words[words.index("--executor-id") + 1] == executor:
                with suppress(ProcessLookupError):
                    if os.getpgid(pid) in self._groups:
                        return pid
        return None


def sweep(folder: Path) -> None:
    """Removes what a dead executor had fetched and unpacked: more than a gigabyte, and the worker would keep it.

    Its logs stay.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)  # processes of its own may end only now


def read_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def processes() -> Iterator[tuple[int, list[str]]]:
    """Process ids and command lines of all processes."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended
            continue


def children(parent: int) -> list[str]:
    """The programs of a process's children."""
    found = []
    for pid, _ in processes():
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(after_name[1]) == parent:
                found.append(os.readlink(f"/proc/{pid}/exe"))
        except OSError:
            continue
    return found


@dataclass(frozen=True)
class Loss:
    """An executor as the event log tells of its end."""

    reason: str
    during: tuple[str, ...]
    """Descriptions of the Spark jobs that ran at that moment."""
    tasks: tuple[str, ...]
    """Descriptions of the jobs whose tasks were lost with it."""


def losses(event_log: Path) -> dict[str, Loss]:
    """What was lost with each executor that was removed, by its id. The log has the events in their order."""
    running: dict[int, str] = {}
    job_of_stage: dict[int, str] = {}
    lost: dict[str, list[str]] = {}
    removed: dict[str, tuple[str, tuple[str, ...]]] = {}
    for line in event_log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        kind = event["Event"]
        if kind == "SparkListenerJobStart":
            description = event["Properties"].get("spark.job.description", "")
            running[event["Job ID"]] = description
            job_of_stage |= dict.fromkeys(event["Stage IDs"], description)
        elif kind == "SparkListenerJobEnd":
            del running[event["Job ID"]]
        elif kind == "SparkListenerTaskEnd" and event["Task End Reason"]["Reason"] == "ExecutorLostFailure":
            lost.setdefault(event["Task End Reason"]["Executor ID"], []).append(job_of_stage[event["Stage ID"]])
        elif kind == "SparkListenerExecutorRemoved":
            removed[event["Executor ID"]] = event["Removed Reason"], tuple(running.values())
    return {name: Loss(reason, during, tuple(lost.get(name, ()))) for name, (reason, during) in removed.items()}
