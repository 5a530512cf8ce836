"""The main job on a standalone cluster whose executors do not have the package installed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import SPARK_HOME, Cluster
from tests.e2e.conftest import ROOT, Finished, finish, read
from tests.shop import write_shop

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NEURAL = {"mfn", "gru"}
MODELS = ("popularity", "repurchase", "item_knn", "ease", "mfn", "gru")


@dataclass(frozen=True)
class Runs:
    """The same shop, run on a cluster and on a local master."""

    config: Path
    workspace: Path
    cluster: Finished
    local: Finished

    def rows(self, table: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        on_cluster, on_local = (read(run.line["outputs"][table]).to_pylist() for run in (self.cluster, self.local))
        return on_cluster, on_local


@pytest.fixture(scope="module")
def runs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("shop")
    config = write_shop(folder / "shop")
    job = [sys.executable, str(ROOT / "jobs" / "run_pipeline.py"), "--config", str(config)]
    job += ["--set", f"models=[{', '.join(MODELS)}]", "--set", "training.num_processes=2"]
    workspace = folder / "on_cluster"
    command = [*job, *cluster.settings, "--set", f"workspace={workspace}"]
    on_cluster = finish(command, folder, **cluster.environment)
    assert on_cluster.code == 0, on_cluster.stderr[-6000:]
    on_local = finish([*job, "--set", f"workspace={folder / 'on_local'}"], folder)
    assert on_local.code == 0, on_local.stderr[-4000:]
    return Runs(config, workspace, on_cluster, on_local)


def test_the_cleaned_log_is_that_of_a_local_run(runs: Runs) -> None:
    on_cluster, on_local = runs.rows("clean_events")
    assert len(on_cluster) > 1000
    assert ordered(on_cluster) == ordered(on_local)


@pytest.mark.parametrize("model", [name for name in MODELS if name not in NEURAL])
def test_lists_of_models_that_spark_fits_are_those_of_a_local_run(runs: Runs, model: str) -> None:
    on_cluster, on_local = (lists_of(model, rows) for rows in runs.rows("evaluation_recommendations"))
    assert on_cluster
    assert ordered(on_cluster) == ordered(on_local)


@pytest.mark.parametrize("model", sorted(NEURAL))
def test_neural_models_trained_on_executors_list_for_the_same_users(runs: Runs, model: str) -> None:
    on_cluster, on_local = (lists_of(model, rows) for rows in runs.rows("evaluation_recommendations"))
    assert on_cluster
    assert {row["user_id"] for row in on_cluster} == {row["user_id"] for row in on_local}
    assert all(math.isfinite(row["score"]) for row in on_cluster)


def test_under_spark_submit_the_shipped_zip_is_enough_to_train_on_executors(
    runs: Runs, cluster: Cluster, tmp_path: Path
) -> None:
    """Neither the driver's nor the executors' Python has the package."""
    missing = subprocess.run(
        [str(cluster.python), "-c", "import pyspark, torch; import recsys_spark"],
        capture_output=True, text=True, cwd=tmp_path, check=False, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert "No module named 'recsys_spark'" in missing.stderr
    archive = tmp_path / "recsys_spark.zip"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "build_zip.py"), str(archive)], check=True)
    command = [
        *(str(SPARK_HOME / "bin" / "spark-submit"), "--master", cluster.master, "--py-files", str(archive)),
        *("--conf", "spark.executor.memory=1g", "--conf", "spark.driver.host=127.0.0.1", "--driver-memory", "1g"),
        *(str(ROOT / "jobs" / "train_models.py"), "--config", str(runs.config), "--set", "spark.master=null"),
        *("--set", f"workspace={runs.workspace}", "--set", "models=[gru]", "--set", "training.num_processes=2"),
    ]
    environment = {**cluster.environment, "PYSPARK_DRIVER_PYTHON": str(cluster.python), "PYTHONPATH": ""}
    ended = finish(command, tmp_path, **environment)
    assert ended.code == 0, ended.stderr[-6000:]
    assert ended.line["status"] == "done"


def lists_of(model: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["model"] == model]


def ordered(rows: list[dict[str, Any]]) -> list[str]:
    """Rows in an order of their own: partitions come in any."""
    return sorted(str(row) for row in rows)
