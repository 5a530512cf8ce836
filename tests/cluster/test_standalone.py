"""The main job on a standalone cluster whose executors do not have the package installed."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.conftest import Cluster
from tests.e2e.conftest import ROOT, Finished, finish, read
from tests.shop import write_shop

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NEURAL = {"mfn", "gru"}
MODELS = ("popularity", "repurchase", "item_knn", "ease", "mfn", "gru")


@dataclass(frozen=True)
class Runs:
    """The same shop, run on a cluster and on a local master."""

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
    command = [*job, *cluster.settings, "--set", f"workspace={folder / 'on_cluster'}"]
    on_cluster = finish(command, folder, **cluster.environment)
    assert on_cluster.code == 0, on_cluster.stderr[-6000:]
    on_local = finish([*job, "--set", f"workspace={folder / 'on_local'}"], folder)
    assert on_local.code == 0, on_local.stderr[-4000:]
    return Runs(on_cluster, on_local)


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


def lists_of(model: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["model"] == model]


def ordered(rows: list[dict[str, Any]]) -> list[str]:
    """Rows in an order of their own: partitions come in any."""
    return sorted(str(row) for row in rows)
