"""What a Spark program and its processes took: shuffle bytes from the event log, memory from /proc and from the JVM."""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import SparkSession

MEGABYTE = 2**20
TASK_BYTES = ("read_mb", "shuffle_written_mb", "shuffle_read_mb", "spilled_to_disk_mb")


def event_log_settings(folder: Path) -> dict[str, str]:
    """Spark settings that write one plain event log into a folder (which must exist)."""
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{folder.absolute()}",
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }


def task_bytes(folder: Path, spans: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Megabytes that tasks read, shuffled and spilled, by the span (start, end: seconds since 1970) they ended in.

    The log is complete once the session has stopped.
    """
    totals: dict[str, dict[str, float]] = {name: {**dict.fromkeys(TASK_BYTES, 0.0), "tasks": 0} for name in spans}
    for path in folder.iterdir():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith('{"Event":"SparkListenerTaskEnd"'):
                    continue
                event = json.loads(line)
                ended = event["Task Info"]["Finish Time"] / 1000
                name = next((name for name, (start, end) in spans.items() if start <= ended <= end), None)
                if name is None or "Task Metrics" not in event:
                    continue
                metrics, total = event["Task Metrics"], totals[name]
                read = metrics["Shuffle Read Metrics"]
                total["tasks"] += 1
                total["read_mb"] += metrics["Input Metrics"]["Bytes Read"] / MEGABYTE
                total["shuffle_written_mb"] += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"] / MEGABYTE
                total["shuffle_read_mb"] += (read["Remote Bytes Read"] + read["Local Bytes Read"]) / MEGABYTE
                total["spilled_to_disk_mb"] += metrics["Disk Bytes Spilled"] / MEGABYTE
    return totals


def reset_heap_peak(spark: SparkSession) -> None:
    """Start anew with the JVM's peak."""
    for pool in _heap_pools(spark):
        pool.resetPeakUsage()


def heap_peak_mb(spark: SparkSession) -> float:
    """The most heap that the driver's JVM used since the last reset, garbage included: the sum of its pools' peaks."""
    return sum(float(pool.getPeakUsage().getUsed()) for pool in _heap_pools(spark)) / MEGABYTE


def _heap_pools(spark: SparkSession) -> list:  # type: ignore[type-arg]
    management = spark._jvm.java.lang.management.ManagementFactory  # type: ignore[union-attr]
    return [pool for pool in management.getMemoryPoolMXBeans() if str(pool.getType().name()) == "HEAP"]


class PeakMemory(threading.Thread):
    """Samples the memory of a process and its descendants: proportional set size, so shared pages count once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peaks_mb: dict[str, float] = defaultdict(float)
        """The most of `jvm` (all Java processes), `python_workers` (Spark's), `driver_python` and all `together`."""
        self._pid = pid
        self._done = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        while not self._done.wait(0.5):
            now: dict[str, float] = defaultdict(float)
            for pid, kind in _processes(self._pid):
                size = _pss_mb(pid)
                now[kind] += size
                now["together"] += size
            for kind, size in now.items():
                self.peaks_mb[kind] = max(self.peaks_mb[kind], size)

    def stop(self) -> dict[str, float]:
        """End the sampling; returns the peaks in MB."""
        self._done.set()
        self.join()
        return {kind: round(size, 1) for kind, size in sorted(self.peaks_mb.items())}


def _processes(root: int) -> list[tuple[int, str]]:
    """The process and its descendants, each with its kind: what stands below a JVM is a Python worker."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children[int(fields[1])].append(int(entry))
    found = [(root, "driver_python")]
    for pid, kind in found:
        for child in children[pid]:
            java = _command(child) == "java"
            found.append((child, "jvm" if java else "python_workers" if kind != "driver_python" else kind))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _pss_mb(pid: int) -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
