"""The learning curve: rank 0 appends lines of JSON, a thread of the driver follows the file while training runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

CURVE = "curve.jsonl"


class CurveWriter:
    """Appends points to the curve, each a line of JSON that is flushed at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def write(self, point: dict[str, Any]) -> None:
        """Append one point."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")


class CurveFollower:
    """Calls `on_point` with each new point of the curve, from a thread, until the block ends."""

    def __init__(self, path: Path, on_point: Callable[[dict[str, Any]], None], every_seconds: float = 0.5) -> None:
        self._path = path
        self._on_point = on_point
        self._every_seconds = every_seconds
        self._offset = path.stat().st_size if path.exists() else 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="learning-curve", daemon=True)

    def __enter__(self) -> CurveFollower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._read()

    def _follow(self) -> None:
        while not self._done.wait(self._every_seconds):
            self._read()

    def _read(self) -> None:
        """Hand over the whole lines that came since the last time; a line half-written waits for its end."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._on_point(json.loads(line))
