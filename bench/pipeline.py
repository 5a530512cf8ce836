"""Times the main job as its users run it: wall time and peak memory of all its processes, and the speed of its stages.

    python bench/pipeline.py --config conf/demo.yaml --out bench/results/pipeline.json

The job runs into an empty workspace, so nothing is skipped. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.measures import PeakMemory  # noqa: E402


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
        memory = peak.stop()
    wall = time.monotonic() - started
    if job.returncode:
        raise SystemExit(f"the job ended with exit code {job.returncode}")
    line = json.loads(output.strip().splitlines()[-1])
    metrics, stages = line["metrics"], line["stages"]
    events = metrics["rows_in"]
    return {
        "wall_seconds": wall,
        "peak_memory_mb": memory["together"],
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


if __name__ == "__main__":
    sys.exit(main())
