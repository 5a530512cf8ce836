"""Runs the project's jobs as a user would, and reads what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]


def run_job(job: str, configs: Sequence[Path], settings: Sequence[str], log: Path) -> dict[str, Any]:
    """The JSON line of a job run by its command line; what it says on the way is appended to `log`.

    Raises SystemExit where the job fails.
    """
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py")]
    command += [part for config in configs for part in ("--config", str(config))]
    command += [part for setting in settings for part in ("--set", setting)]
    with log.open("a", encoding="utf-8") as file:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=file, text=True)
    if ended.returncode:
        raise SystemExit(f"{job} ended with exit code {ended.returncode}; see {log}")
    line: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return line


def measured(table: Path, repeats: str, k: int) -> dict[str, dict[str, dict[str, float]]]:
    """Model to metric to its `value`, `low` and `high` at `k`, of the table evaluation_metrics."""
    values: dict[str, dict[str, dict[str, float]]] = {}
    for row in pq.read_table(table, filters=[("repeats", "=", repeats), ("k", "=", k)], partitioning=None).to_pylist():
        told = {name: row.get(name) for name in ("value", "low", "high")}
        values.setdefault(row["model"], {})[row["metric"]] = told
    return values


def ahead(table: Path, repeats: str, k: int, model: str, against: str) -> dict[str, float] | None:
    """NDCG's `difference`, `low`, `high` and `p_value` of a row of evaluation_comparisons, if there is one."""
    wanted = [("repeats", "=", repeats), ("k", "=", k), ("metric", "=", "ndcg")]
    wanted += [("model", "=", model), ("against", "=", against)]
    rows = pq.read_table(table, filters=wanted, partitioning=None).to_pylist()
    names = ("difference", "low", "high", "p_value", "users")
    return {name: rows[0][name] for name in names} if rows else None
