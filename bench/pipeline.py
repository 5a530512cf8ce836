"""Times the main job as its users run it: wall time and peak memory of all its processes, and the speed of its stages.

    python bench/pipeline.py --config conf/demo.yaml --out bench/results/pipeline.json

The job runs into an empty workspace, so nothing is skipped. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="workspace to fill and keep; must not exist")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = arguments.keep or Path(folder) / "workspace"
        if workspace.exists():
            parser.error(f"{workspace} exists; name a new folder")
        measured = measure(arguments.config, workspace)
    for name, value in measured.items():
        print(f"{name:42} {value:>14,.1f}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(config: str, workspace: Path) -> dict[str, float]:
    """Run the main job and collect what it took."""
    command = [sys.executable, str(ROOT / "jobs" / "run_pipeline.py"), "--config", config]
    command += ["--set", f"workspace={workspace}"]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        peak = PeakMemory(job.pid)
        peak.start()
        output, _ = job.communicate()
        peak.stop()
    wall = time.monotonic() - started
    if job.returncode:
        raise SystemExit(f"the job ended with exit code {job.returncode}")
    line = json.loads(output.strip().splitlines()[-1])
    metrics, stages = line["metrics"], line["stages"]
    events = metrics["rows_in"]
    return {
        "wall_seconds": wall,
        "peak_memory_mb": peak.most / 2**20,
        **{f"{name}_seconds": stage["seconds"] for name, stage in stages.items()},
        "clean_events_per_second": events / stages["clean_events"]["seconds"],
        "build_datasets_events_per_second": events / stages["build_datasets"]["seconds"],
        **{
            f"{name}_positions_per_second": metrics[f"{name}.publish.positions_per_second"]
            for name in ("mfn", "gru")
            if f"{name}.publish.positions_per_second" in metrics
        },
        "recommend_users_per_second": metrics["users_per_second"],
    }


class PeakMemory(threading.Thread):
    """Samples the memory of a process and all its descendants (proportional set size, so shared pages count once)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._pid = pid
        self._done = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        while not self._done.wait(0.5):
            self.most = max(self.most, sum(_memory(pid) for pid in _tree(self._pid)))

    def stop(self) -> None:
        """End the sampling."""
        self._done.set()
        self.join()


def _tree(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def _memory(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(main())
