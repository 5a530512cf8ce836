"""One real run of the main job, shared by the tests that look at what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shop import write_shop

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finished:
    """A job that ended."""

    code: int
    line: dict[str, Any]
    """The last line of stdout."""
    stdout: str
    stderr: str


def run_job(job: str, config: Path, *arguments: str, cwd: Path = ROOT) -> Finished:
    """Run a job as a user would: a process of its own, from its command line."""
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), "--config", str(config), *arguments]
    return finish(command, cwd)


def finish(command: Sequence[str], cwd: Path, **environment: str) -> Finished:
    ended = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=1100, env={**os.environ, **environment}, check=False
    )
    lines = ended.stdout.strip().splitlines()
    try:
        line = json.loads(lines[-1])
    except (IndexError, ValueError):
        line = {}
    return Finished(ended.returncode, line, ended.stdout, ended.stderr)


def read(path: str | Path) -> pa.Table:
    return pq.read_table(path)


@dataclass(frozen=True)
class Shop:
    """A shop's folder after a run of the main job."""

    folder: Path
    config: Path
    result: Finished

    def table(self, name: str) -> pa.Table:
        return read(self.result.line["outputs"][name])


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    config = write_shop(folder)
    result = run_job("run_pipeline", config)
    assert result.code == 0, result.stderr[-4000:]
    return Shop(folder, config, result)
