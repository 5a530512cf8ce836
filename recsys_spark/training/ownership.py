"""Who trains in a work directory: the newest launch, and no process of an earlier one.

A killed driver may leave training processes behind, and the next run resumes in the same directory.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recsys_spark.tables.files import new_file

OWNER = "owner"
LOOK_SECONDS = 1.0
SUPERSEDED = 75
"""The exit code of a process whose launch is over."""


def take_over(work: Path, launch: str) -> None:
    """The work directory belongs to this launch from now on; processes of earlier ones end within a second or two."""
    work.mkdir(parents=True, exist_ok=True)
    for path in work.glob("result-*.json"):
        path.unlink(missing_ok=True)
    with new_file(work / OWNER) as file:
        file.write_text(launch, encoding="utf-8")


@contextmanager
def owned(work: Path, launch: str) -> Iterator[None]:
    """End this process as soon as another launch has taken over; with no launch named, nothing is watched."""
    if not launch:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_SECONDS):
            if not is_owner(work, launch):
                os._exit(SUPERSEDED)

    thread = threading.Thread(target=watch, name="owner-of-the-training", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def is_owner(work: Path, launch: str) -> bool:
    """Does the directory belong to this launch; also where that cannot be read, as on a network's bad day."""
    try:
        return (work / OWNER).read_text(encoding="utf-8") == launch
    except FileNotFoundError:
        return work.is_dir() is False or not launch
    except OSError:
        return True


def write_result(work: Path, launch: str, result: Mapping[str, Any]) -> None:
    """Leave the result of a launch for the driver, whole or not at all."""
    with suppress(FileNotFoundError), new_file(work / f"result-{launch}.json") as file:
        file.write_text(json.dumps({**result, "agent": os.getppid()}), encoding="utf-8")


def read_result(work: Path, launch: str) -> dict[str, Any] | None:
    """The result of a launch, where there is one."""
    try:
        result: dict[str, Any] = json.loads((work / f"result-{launch}.json").read_text(encoding="utf-8"))
        return result
    except FileNotFoundError:
        return None
