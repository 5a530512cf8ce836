"""The day's work as an Airflow DAG: one run a day, in order, with back-fill and retries. For Airflow 3.

Copy this file into the DAGs folder of Airflow. It runs `jobs/run_pipeline.py` in the project's own environment, so
Airflow needs nothing of it; what it must know stands in environment variables of the scheduler and its workers:

    RECSYS_HOME    the checkout, with its environment in .venv        (default /opt/recsys_spark)
    RECSYS_CONFIG  the configuration of the shop                      (default /etc/recsys_spark/shop.yaml)
    RECSYS_START   the first day whose arrivals are to be taken in    (default: the day before this file was copied)
    RECSYS_PYTHON  another interpreter than RECSYS_HOME/.venv/bin/python
    JAVA_HOME      as the jobs need it

A run that Airflow starts on a day at 03:00 UTC is the run for the day before. Days that were missed are run one after
the other (catchup, one active run, none before the one before it has succeeded). Earlier ones:

    airflow backfill create --dag-id recsys_spark --from-date 2024-03-01 --to-date 2024-03-31
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.timetables.trigger import CronTriggerTimetable

HOME = os.environ.get("RECSYS_HOME", "/opt/recsys_spark")
PYTHON = os.environ.get("RECSYS_PYTHON", f"{HOME}/.venv/bin/python")
CONFIG = os.environ.get("RECSYS_CONFIG", "/etc/recsys_spark/shop.yaml")
FIRST = os.environ.get("RECSYS_START")
COPIED = datetime.fromtimestamp(os.path.getmtime(__file__), UTC)  # a start that moved would skip days that come late
START = datetime.fromisoformat(FIRST).replace(tzinfo=UTC) if FIRST else COPIED - timedelta(days=1)
DONE, BAD_INPUT = 0, 2


@dag(
    dag_id="recsys_spark",
    # The interval of a run is the day that ends when it starts: its first moment lies in the day that is run.
    schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC", interval=timedelta(days=1)),
    start_date=START,
    catchup=True,
    max_active_runs=1,
    default_args={"depends_on_past": True, "retries": 2, "retry_delay": timedelta(minutes=10)},
    tags=["recommendations"],
)
def recsys_spark() -> None:
    """From the day's raw files to published recommendations."""

    @task(execution_timeout=timedelta(hours=12))
    def run_pipeline(data_interval_start: Any = None) -> dict[str, Any]:
        """Run the day; returns the job's JSON line. A fault is tried again, bad input is not."""
        command = [
            *(PYTHON, f"{HOME}/jobs/run_pipeline.py", "--config", CONFIG),
            *("--date", f"{data_interval_start:%Y-%m-%d}"),
            *("--set", "schedule.wait_seconds=3600"),  # a job by hand holds the lock: wait for it
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HOME) as process:
            try:
                stdout, _ = process.communicate()
            except BaseException:  # the task was ended: so is the job, which then gives its lock back
                process.terminate()
                raise
        line = json.loads(stdout.strip().splitlines()[-1]) if stdout.strip() else {}
        if process.returncode == DONE:
            return line
        said = f"run_pipeline ended with exit code {process.returncode}: {line.get('error', 'see the log')}"
        if process.returncode == BAD_INPUT and line.get("status") != "busy":
            raise AirflowFailException(said)  # the same input would be refused again
        raise AirflowException(said)

    run_pipeline()


recsys_spark()
