"""Measures clean_events, build_features and build_datasets over growing logs, beside DuckDB and Polars.

    python bench/scale.py --sizes 1 10 50 --work /data/scale --baseline-python /path/to/python --write

Sizes are millions of events. Logs are made by bench/generator.py below --work, or used again where they stand. Ours
runs the real stages, in a process of its own, everything at once (no source.arrival); Spark's start and MLflow's
database come before the clock. In local mode the driver's JVM is also the executor, so its heap (--driver-memory)
bounds both. Then the same log goes through bench/scale_baselines.py with the same number of threads, one after the
other. --baseline-python is a Python that has duckdb and polars (`pip install -e .[bench]`), by default this one. An
exponent is the slope of the logarithm of the seconds over that of the rows, of all sizes and of the two largest. Peak
memory is sampled alike for all: the process and its children. Prints a table; --write also writes
bench/results/scale.json.

What differs, on both sides: ours keeps the text and the reasons of rejected rows, (with --rules) applies the optional
rules of cleaning, makes the quality report, keeps histories, matrix and sequences for each fit (two of them), in row
groups of equal size and random order, syncs and tracks. The baselines make one matrix and one sequence file; DuckDB
leaves out lines that are not UTF-8.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.measures import PeakMemory, event_log_settings, heap_peak_mb, reset_heap_peak, task_bytes  # noqa: E402

STAGES = ("clean_events", "build_features", "build_datasets")
ENGINES = ("ours", "duckdb", "polars")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1, 10, 50], help="millions of events")
    parser.add_argument("--work", type=Path, default=None, help="folder of the logs; by default a temporary one")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--dirty", type=float, default=0.2, help="as of bench/generator.py")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--driver-memory", default="2g")
    parser.add_argument("--rules", action="store_true", help="ours with the rules of the log's own configuration")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="further settings of ours")
    parser.add_argument("--baseline-python", default=sys.executable)
    parser.add_argument("--write", action="store_true", help="write bench/results/scale.json")
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_stages(arguments.child, arguments.overrides)))
        return 0
    with tempfile.TemporaryDirectory(dir=arguments.work and made(arguments.work)) as scratch:
        work = arguments.work or Path(scratch)
        runs: list[dict[str, Any]] = []
        for size in arguments.sizes:
            log = make_log(round(size * 1e6), arguments, work)
            for engine in arguments.engines:
                folder = Path(scratch) / f"{engine}-{size:g}"
                run = ours(log, folder, arguments) if engine == "ours" else baseline(engine, log, folder, arguments)
                runs.append({"engine": engine, "events": round(size * 1e6), "rows": log_rows(log), **run})
                print_run(runs[-1])
                shutil.rmtree(folder, ignore_errors=True)
    summary = {
        "exponents": exponents(runs),
        "exponents_of_the_two_largest": exponents(of_the_largest(runs, 2)),
        "ratios": ratios(runs),
    }
    print(json.dumps(summary, indent=1))
    if arguments.write:
        told = {"cores": os.cpu_count(), "threads": arguments.threads, "driver_memory": arguments.driver_memory}
        content = {**told, "dirty": arguments.dirty, "rules": arguments.rules, **summary, "runs": runs}
        (ROOT / "bench" / "results" / "scale.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def made(folder: Path) -> Path:
    """The folder, which now exists."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_log(events: int, arguments: argparse.Namespace, work: Path) -> Path:
    """The folder of a log of so many events: as it stands, or made."""
    folder = work / f"events-{events}-dirty-{arguments.dirty:g}"
    if not (folder / "truth.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, str(ROOT / "bench" / "generator.py"), "--events", str(events), "--out", str(folder)]
        command += ["--dirty", str(arguments.dirty), "--master", f"local[{arguments.threads}]"]
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"made {events:,} events in {time.monotonic() - started:.1f} s, with the start of Spark", flush=True)
    return folder


def log_rows(log: Path) -> int:
    """Rows of a log, dirt included."""
    return int(json.loads((log / "truth.json").read_text())["truth"]["rows"])


def ours(log: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run our stages in a process of their own."""
    made(folder / "log")
    config = yaml.safe_load((log / "shop.yaml").read_text())
    if not arguments.rules:
        config.pop("cleaning", None)
        config["source"].pop("reject", None)
    config["workspace"] = str(folder / "workspace")
    config["spark"] = {
        "master": f"local[{arguments.threads}]",
        "driver_memory": arguments.driver_memory,
        "conf": event_log_settings(folder / "log"),
    }
    (folder / "scale.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, __file__, "--child", str(folder / "scale.yaml")]
    command += [part for override in arguments.overrides for part in ("--set", override)]
    told, memory = measured(command, "our stages failed")
    bytes_ = task_bytes(folder / "log", {name: tuple(stage["span"]) for name, stage in told["stages"].items()})
    stages = {name: {**stage, **rounded(bytes_[name])} for name, stage in told["stages"].items()}
    for stage in stages.values():
        del stage["span"]
    return {
        "seconds": {name: stage["seconds"] for name, stage in stages.items()},
        "start_seconds": told["start_seconds"],
        "stages": stages,
        "metrics": told["metrics"],
        "peak_memory_mb": memory.get("together", 0.0),
        "memory_mb": memory,
    }


def measured(command: list[str], failure: str) -> tuple[dict[str, Any], dict[str, float]]:
    """The JSON of the last line that a process prints, and the peak memory of it and its children."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        peak = PeakMemory(child.pid)
        peak.start()
        output, _ = child.communicate()
        memory = peak.stop()
    if child.returncode:
        raise SystemExit(f"{failure} (exit code {child.returncode})")
    return json.loads(output.strip().splitlines()[-1]), memory


def run_stages(path: Path, overrides: list[str]) -> dict[str, Any]:
    """In the child: run the stages; seconds and heap of each, and their metrics."""
    from recsys_spark.config import load_config
    from recsys_spark.pipeline.runner import Runner
    from recsys_spark.pipeline.stages import STAGES as FLOW

    started = time.time()
    runner = Runner(load_config([str(path)], overrides), "bench scale", None)
    stages: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    try:
        spark = runner.spark
        with runner.tracker.start("bench scale") as parent:
            start_seconds = time.time() - started
            for name in STAGES:
                reset_heap_peak(spark)
                started = time.time()
                outcome = runner.run(FLOW[name], parent)
                ended = time.time()
                stages[name] = {
                    "seconds": round(ended - started, 2),
                    "heap_peak_mb": round(heap_peak_mb(spark)),
                    "span": [started, ended],
                }
                metrics |= {f"{name}.{metric}": value for metric, value in outcome.commit.metrics.items()}
    finally:
        runner.stop()
    return {"start_seconds": round(start_seconds, 2), "stages": stages, "metrics": metrics}


def baseline(engine: str, log: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the same work in another engine, in a process of its own."""
    command = [arguments.baseline_python, str(ROOT / "bench" / "scale_baselines.py"), engine]
    command += ["--events", f"{log}/events/*/*.csv", "--out", str(folder), "--threads", str(arguments.threads)]
    missing = f"{engine} failed; does {arguments.baseline_python} have it? (pip install -e .[bench])"
    told, memory = measured(command, missing)
    return {
        "seconds": told["seconds"],
        "version": told["version"],
        "metrics": told["rows"],
        "peak_memory_mb": memory.get("together", 0.0),
        "memory_mb": memory,
    }


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Whole megabytes and tasks."""
    return {name: round(value) for name, value in values.items()}


def total(run: dict[str, Any]) -> float:
    """Seconds of all steps."""
    return float(sum(run["seconds"].values()))


def print_run(run: dict[str, Any]) -> None:
    """One block of the table."""
    steps = "  ".join(f"{name} {seconds:.1f}" for name, seconds in run["seconds"].items())
    print(
        f"{run['engine']:7} {run['rows']:>12,} rows {total(run):>8.1f} s  {run['peak_memory_mb']:>7,.0f} MB   {steps}"
    )
    for name, stage in run.get("stages", {}).items():
        shuffled = f"shuffled {stage['shuffle_written_mb']:,} MB, Spark's readers read {stage['read_mb']:,} MB"
        spilled = f"spilled {stage['spilled_to_disk_mb']:,} MB, heap {stage['heap_peak_mb']:,} MB"
        print(f"        {name:15} {shuffled}, {spilled}, {stage['tasks']} tasks")
    sys.stdout.flush()


def exponents(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Least-squares slope of log seconds over log rows: of each engine's steps, and of all together."""
    found: dict[str, dict[str, float]] = {}
    for engine in ENGINES:
        own = [run for run in runs if run["engine"] == engine]
        if len({run["rows"] for run in own}) < 2:
            continue
        series = {name: [run["seconds"][name] for run in own] for name in own[0]["seconds"]}
        series["together"] = [total(run) for run in own]
        found[engine] = {
            name: round(slope([run["rows"] for run in own], [max(value, 1e-3) for value in values]), 3)
            for name, values in series.items()
        }
    return found


def of_the_largest(runs: list[dict[str, Any]], sizes: int) -> list[dict[str, Any]]:
    """The runs over the largest logs, so many of them."""
    largest = sorted({run["rows"] for run in runs})[-sizes:]
    return [run for run in runs if run["rows"] in largest]


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Slope of the least-squares line through (log size, log seconds)."""
    x, y = ([math.log(value) for value in values] for values in (sizes, seconds))
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    above = sum((one - x_mean) * (other - y_mean) for one, other in zip(x, y, strict=True))
    return above / sum((one - x_mean) ** 2 for one in x)


def ratios(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Our seconds over those of each other engine, at each size."""
    by_size: dict[int, dict[str, float]] = {}
    for run in runs:
        by_size.setdefault(run["events"], {})[run["engine"]] = total(run)
    return {
        f"{events:,}": {
            engine: round(seconds["ours"] / other, 2) for engine, other in seconds.items() if engine != "ours"
        }
        for events, seconds in by_size.items()
        if "ours" in seconds
    }


if __name__ == "__main__":
    sys.exit(main())
