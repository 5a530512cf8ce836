"""What a launch tells while it runs: metrics and progress lines from the points of the curve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

PROGRESS_SECONDS = 5.0
"""Within an epoch a progress line comes at most so often."""
STEP_METRICS = ("loss", "positions_per_second", "data_wait_share")
EPOCH_METRICS = ("valid_ndcg_at_10", "bytes_communicated")


class Reporter:
    """Turns points of the curve into metrics and progress lines."""

    def __init__(self, progress: Callable[[str], None], metric: Callable[[str, float, int], None]) -> None:
        self._progress = progress
        self._metric = metric
        self._last = time.monotonic()

    def __call__(self, point: Mapping[str, Any]) -> None:
        """Tell a point."""
        of_epoch = point["event"] == "epoch"
        for name in EPOCH_METRICS if of_epoch else STEP_METRICS:
            if point.get(name) is not None:
                self._metric(name, float(point[name]), int(point["total_steps"]))
        if of_epoch:
            ndcg = point.get("valid_ndcg_at_10")
            found = "" if ndcg is None else f", valid NDCG@10 {ndcg:.4f}"
            self._progress(f"epoch {point['epoch']}/{point['epochs']} done: {_told(point)}{found}{_left(point)}")
        elif time.monotonic() - self._last > PROGRESS_SECONDS:
            self._last = time.monotonic()
            place = f"epoch {point['epoch']}/{point['epochs']} step {point['step']}/{point['steps']}"
            self._progress(f"{place}: {_told(point)}, {point['data_wait_share']:.1%} waiting{_left(point)}")


def _told(point: Mapping[str, Any]) -> str:
    return f"loss {point['loss']:.4f}, {point['positions_per_second']:,.0f} positions/s"


def _left(point: Mapping[str, Any]) -> str:
    """The time that is left if no epoch is saved by stopping early."""
    seconds = round(float(point["seconds_left"]))
    if not seconds:
        return ""
    hours, minutes = divmod(seconds // 60, 60)
    return f", at most {hours} h {minutes} min left" if hours else f", at most {minutes} min {seconds % 60} s left"
