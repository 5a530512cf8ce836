"""The whole pipeline by spark-submit from a packed environment, with an executor killed in each of its stages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import SPARK_HOME, Cluster, free_port
from tests.cluster.killing import Aim, Kill, Killer, Loss, losses
from tests.e2e.conftest import ROOT, Finished, finish, read
from tests.shop import write_shop

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

TRAINING = "train_models.gru: training"
STAGES = (
    *("clean_events", "build_features", "build_datasets", "fit_features", TRAINING),
    *("evaluate_models", "fuse_recommendations"),
)
SETTINGS = (
    *("--set", "models=[popularity, item_knn, gru]", "--set", "training.num_processes=2"),
    *("--set", "recommenders.gru={dim: 8, epochs: 15, patience: 15, batch_size: 32, negatives: 16}"),
    *("--set", "evaluation={k: [5], repeats: allow, bootstrap: 0}"),
    *("--set", "fusion={k: 5, search_users: 50, explain_items: 3}"),
)
"""What makes the runs short, but for the training, which must be under way when its executor dies."""
ON_THE_DRIVER = ("matplotlib", "mlflow", "optuna", "rich")
"""What no task imports: in client mode the archive may do without."""


@dataclass(frozen=True)
class Runs:
    """The same shop by spark-submit on a cluster with its executors killed, and by plain Python on a local master."""

    cluster: Finished
    local: Finished
    kills: tuple[Kill, ...]
    losses: dict[str, Loss]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What `make dist` makes, as arguments of spark-submit."""
    folder = tmp_path_factory.mktemp("dist")
    package, environment = folder / "recsys_spark.zip", folder / "environment.tar.gz"
    scripts = ROOT / "scripts"
    subprocess.run([sys.executable, str(scripts / "build_zip.py"), str(package)], check=True)
    pack = [sys.executable, str(scripts / "build_environment.py"), str(environment), "--level", "1", "--unchecked"]
    subprocess.run([*pack, "--without", *ON_THE_DRIVER], check=True)
    return "--py-files", str(package), "--archives", f"{environment}#environment"


@pytest.fixture(scope="module")
def runs(cluster: Cluster, shipped: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("shop")
    config = write_shop(folder / "shop")
    ui_port, logs, workspace = free_port(), folder / "logs", folder / "on_cluster"
    logs.mkdir()
    conf = {
        "spark.pyspark.python": "./environment/bin/python",
        "spark.pyspark.driver.python": str(cluster.python),
        "spark.executor.memory": "1g",
        "spark.executor.extraJavaOptions": "-Djava.io.tmpdir=.",  # what a killed one had fetched lies in its folder
        "spark.files.useFetchCache": "false",
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.port": str(ui_port),
        "spark.ui.liveUpdate.period": "0",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": logs.as_uri(),
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }
    command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", cluster.master, *shipped]
    command += [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
    command += [str(ROOT / "jobs" / "run_pipeline.py"), "--config", str(config), *SETTINGS]
    command += ["--set", "spark.master=null", "--set", f"workspace={workspace}"]
    killer = Killer(ui_port, cluster.workers, aims(workspace))
    killer.start()
    try:
        on_cluster = finish(command, folder, SPARK_LOCAL_IP="127.0.0.1", PYTHONPATH="")
    finally:
        killer.stop()
    assert on_cluster.code == 0, on_cluster.stdout[-3000:] + on_cluster.stderr[-3000:]
    job = [sys.executable, str(ROOT / "jobs" / "run_pipeline.py"), "--config", str(config), *SETTINGS]
    on_local = finish([*job, "--set", f"workspace={folder / 'on_local'}"], folder)
    assert on_local.code == 0, on_local.stderr[-4000:]
    (event_log,) = (path for path in logs.iterdir() if path.is_file())
    return Runs(on_cluster, on_local, tuple(killer.kills), losses(event_log))


def aims(workspace: Path) -> list[Aim]:
    """A stage each; the training once it has something to go on with."""

    def has_checkpoint() -> bool:
        return any((workspace / "scratch").glob("gru-*/epoch-*"))

    return [Aim(stage, has_checkpoint) if stage == TRAINING else Aim(stage) for stage in STAGES]


def test_an_executor_died_in_each_stage_with_a_task_of_it(runs: Runs) -> None:
    assert [kill.description for kill in runs.kills] == list(STAGES)
    for kill in runs.kills:
        loss = runs.losses[kill.executor]
        assert any(job.startswith(kill.description) for job in loss.during), (kill, loss)
        assert any(job.startswith(kill.description) for job in loss.tasks), (kill, loss)


def test_neither_side_had_the_package_and_executors_ran_the_packed_python(
    runs: Runs, cluster: Cluster, tmp_path: Path
) -> None:
    missing = subprocess.run(
        [str(cluster.python), "-c", "import pyspark, torch; import recsys_spark"],
        capture_output=True, text=True, cwd=tmp_path, check=False, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert "No module named 'recsys_spark'" in missing.stderr
    programs = {program for kill in runs.kills for program in kill.pythons}
    assert programs
    assert all("/work/app-" in program and "/environment/bin/python" in program for program in programs), programs


def test_the_run_ended_right_and_every_table_is_that_of_the_local_run(runs: Runs) -> None:
    on_cluster, on_local = (run.line["outputs"] for run in (runs.cluster, runs.local))
    assert on_cluster.keys() == on_local.keys()
    tables = [name for name, path in on_local.items() if Path(path).is_dir()]
    assert {"clean_events", "histories", "evaluation_recommendations", "recommendations"} <= set(tables)
    different = [name for name in tables if rows(on_cluster[name]) != rows(on_local[name])]
    assert different == []


def rows(path: str) -> Sequence[str]:
    """Rows without the run's id, in an order of their own: partitions come in any."""
    found: list[dict[str, Any]] = read(path).to_pylist()
    return sorted(str({name: value for name, value in row.items() if name != "run_id"}) for row in found)
