from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.measures import PeakMemory, task_bytes
from bench.scale import exponents, measured, of_the_largest, ratios

ROOT = Path(__file__).resolve().parents[3]
ROWS = [
    "2024-01-01 10:00:00,u1,i1,view,,2.5,",
    "2024-01-01 10:00:00,u1,i1,view,,2.5,",  # an exact copy
    "2024-01-02 10:00:00,u1,i2,purchase,1,3.0,o1",
    "2024-01-02 11:00:00,u1,i1,click,,2.5,",
    "2024-01-03 11:00:00,u2,i1,purchase,2,2.5,o2",
    "yesterday,u2,i1,view,,2.5,",
    "2024-01-03 12:00:00,,i1,view,,2.5,",
    "2024-01-03 12:00:00,u2,i1,view,,twelve,",
    "2024-01-03 12:",
]


def runs(engine: str, power: float, factor: float) -> list[dict[str, object]]:
    return [
        {"engine": engine, "events": rows, "rows": rows, "seconds": {"a": factor * rows**power, "b": rows * 1e-3}}
        for rows in (1_000, 10_000, 50_000)
    ]


def test_exponents_are_the_powers_of_the_rows_and_ratios_are_ours_over_theirs() -> None:
    made = runs("ours", 1.25, 1e-3) + runs("duckdb", 1.0, 1e-3)
    found = exponents(made)
    assert (found["ours"]["a"], found["ours"]["b"]) == (1.25, 1.0)
    assert found["duckdb"] == {"a": 1.0, "b": 1.0, "together": 1.0}
    assert ratios(made)["10,000"] == {"duckdb": 5.5}  # (10,000 ** 0.25 + 1) / 2
    assert exponents(made[:1]) == {}
    assert {run["rows"] for run in of_the_largest(made, 2)} == {10_000, 50_000}
    assert exponents(of_the_largest(made, 2))["ours"]["a"] == 1.25


def test_what_a_child_tells_and_took_is_measured() -> None:
    told, memory = measured(
        [sys.executable, "-c", "import time; a = bytearray(60 << 20); time.sleep(1); print('{}')"], "no"
    )
    assert told == {}
    assert memory["together"] > 60
    with pytest.raises(SystemExit, match=r"it failed \(exit code 3\)"):
        measured([sys.executable, "-c", "raise SystemExit(3)"], "it failed")


def test_bytes_of_tasks_are_told_by_the_span_in_which_they_ended(tmp_path: Path) -> None:
    def task(ended: float, mb: int) -> str:
        metrics = {
            "Input Metrics": {"Bytes Read": 4 * mb << 20},
            "Shuffle Write Metrics": {"Shuffle Bytes Written": mb << 20},
            "Shuffle Read Metrics": {"Remote Bytes Read": mb << 20, "Local Bytes Read": 2 * mb << 20},
            "Disk Bytes Spilled": 0,
        }
        info = {"Finish Time": int(ended * 1000)}
        event = {"Event": "SparkListenerTaskEnd", "Task Info": info, "Task Metrics": metrics}
        return json.dumps(event, separators=(",", ":"))

    lines = ['{"Event":"SparkListenerLogStart"}', task(5, 1), task(15, 10), task(16, 100), task(99, 1000)]
    (tmp_path / "log").write_text("\n".join(lines))
    found = task_bytes(tmp_path, {"one": (0, 10), "two": (10, 20)})
    assert (found["one"]["shuffle_written_mb"], found["one"]["shuffle_read_mb"], found["one"]["read_mb"]) == (1, 3, 4)
    assert (found["two"]["shuffle_written_mb"], found["two"]["tasks"]) == (110, 2)


def test_memory_of_a_process_and_its_children_is_sampled() -> None:
    hold = "import time; held = bytearray(60 << 20); time.sleep(2.5)"
    command = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', '''{hold}'''])"]
    with subprocess.Popen(command) as process:
        peak = PeakMemory(process.pid)
        peak.start()
        time.sleep(1.8)
        assert peak.stop()["together"] > 60


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_baselines_agree_on_a_small_log(tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine, reason="pip install -e .[bench]")
    (tmp_path / "a.csv").write_text(
        "event_time,user_id,item_id,event_type,quantity,price,order_id\n" + "\n".join(ROWS) + "\n"
    )
    command = [sys.executable, str(ROOT / "bench" / "scale_baselines.py"), engine]
    command += ["--events", f"{tmp_path}/*.csv", "--out", str(tmp_path / "out")]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    counts = json.loads(result.stdout.splitlines()[-1])["rows"]
    assert counts == {"clean": 4, "quarantine": 4, "users": 2, "items": 2, "matrix": 3, "sequences": 2}
