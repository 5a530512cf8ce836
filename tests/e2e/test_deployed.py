"""What users copy from deploy/ works: Airflow runs its DAG over two days, systemd takes its units, sh the commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys_spark.scheduling.job_runs import read_runs
from recsys_spark.tables.workspace import Workspace
from tests.e2e.conftest import ROOT, read
from tests.e2e.nightly import deliver, write_config

DEPLOY = ROOT / "deploy"
AIRFLOW = "apache-airflow-core==3.3.2"


def run(command: list[str], timeout: float = 400, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **environment}
    )


def airflow_in(folder: Path) -> Path:
    """Airflow's command in an environment of its own; skips where it cannot be installed."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--disable-pip-version-check", "--progress-bar", "off"]
    constraints = DEPLOY / "airflow" / "constraints.txt"
    installed = run([*pip, "-c", str(constraints), AIRFLOW, "apache-airflow-providers-standard"])
    if installed.returncode:
        pytest.skip(f"Airflow cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    return folder / "bin" / "airflow"


@pytest.mark.slow
def test_airflow_runs_the_dag_day_by_day(tmp_path: Path) -> None:
    airflow = airflow_in(tmp_path / "environment")
    days = deliver(tmp_path / "landing", last_days=2)
    config = write_config(tmp_path)
    environment: Mapping[str, str] = {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DEPLOY / "airflow"),
        "RECSYS_HOME": str(ROOT),
        "RECSYS_PYTHON": sys.executable,
        "RECSYS_CONFIG": str(config),
        "RECSYS_START": days[0],
    }
    migrated = run([str(airflow), "db", "migrate"], **environment)
    assert migrated.returncode == 0, migrated.stderr[-3000:]
    for day in days:
        logical = date.fromisoformat(day) + timedelta(days=1)  # a day is run when it is over
        tested = run([str(airflow), "dags", "test", "recsys_spark", logical.isoformat()], **environment)
        assert tested.returncode == 0, tested.stdout[-3000:] + tested.stderr[-3000:]
    workspace = Workspace(str(tmp_path / "workspace"))
    assert [(str(row["date"]), row["status"]) for row in read_runs(workspace)] == [(day, "done") for day in days]
    lists = workspace.table_commit("recommendations")
    assert lists.as_of is not None
    assert lists.as_of[:10] == (date.fromisoformat(days[-1]) + timedelta(days=1)).isoformat()
    assert read(lists.path("recommendations")).num_rows > 0


def test_systemd_takes_the_timer_and_its_service() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units = [str(DEPLOY / "systemd" / f"recsys-spark.{kind}") for kind in ("timer", "service")]
    verified = run(["systemd-analyze", "verify", *units])
    said = [line for line in verified.stderr.splitlines() if "recsys-spark" in line]
    assert (verified.returncode, said) == (0, [])


def command_of(file: Path, start: str) -> str:
    """What comes after `start` in the one line that has it."""
    [line] = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith(start)]
    return line.removeprefix(start).strip()


@pytest.mark.parametrize("kind", ["cron", "systemd"])
def test_the_command_of_cron_and_systemd_runs_yesterday(tmp_path: Path, kind: str) -> None:
    """Their own text, with only what stands for % and the place of the checkout put in as they would."""
    home = tmp_path / "home"
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / "jobs").mkdir()
    (home / "jobs" / "run_pipeline.py").write_text("import sys; print(sys.argv[1:])")
    (home / ".venv" / "bin" / "python").symlink_to(sys.executable)
    if kind == "cron":
        text = command_of(DEPLOY / "cron" / "recsys-spark.crontab", "0 3 * * *  recsys ").replace(r"\%", "%")
        text = text.replace("/opt/recsys_spark", str(home)).replace("/var/log", str(tmp_path))
        ended = run(["/bin/sh", "-c", text], CONFIG="/etc/shop.yaml")
        out = (tmp_path / "recsys_spark.jsonl").read_text()
    else:
        text = command_of(DEPLOY / "systemd" / "recsys-spark.service", "ExecStart=/bin/sh -c ").strip("'")
        ended = subprocess.run(
            ["/bin/sh", "-c", text.replace("%%", "%")],
            cwd=home, env={**os.environ, "CONFIG": "/etc/shop.yaml"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        out = ended.stdout
    assert ended.returncode == 0, ended.stderr
    yesterday = run(["date", "-u", "-d", "yesterday", "+%F"]).stdout.strip()
    assert out.strip() == str(["--config", "/etc/shop.yaml", "--catch-up", "--date", yesterday])
