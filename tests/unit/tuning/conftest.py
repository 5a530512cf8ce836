"""A small shop whose datasets are built, in which studies can be run in this process."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import load_config
from recsys_spark.pipeline.runner import Runner
from recsys_spark.pipeline.stages import STAGES
from recsys_spark.tables.pointer import Commit
from recsys_spark.tracking.runs import Tracker
from recsys_spark.tuning.search import tuning_stage
from tests.shop import write_shop


@dataclass(frozen=True)
class Studied:
    """What a run of the job left."""

    commit: Commit
    tracker: Tracker

    @property
    def trials(self) -> list[dict[str, Any]]:
        """All trials of the study, without what differs from run to run."""
        trials = json.loads(self.commit.path("trials.json").read_text())
        return [{key: value for key, value in trial.items() if key != "run_id"} for trial in trials]


class TuningShop:
    """A workspace with datasets."""

    def __init__(self, spark: SparkSession, config: Path, workspace: Path) -> None:
        self.spark = spark
        self.config = config
        self.workspace = workspace

    def runner(self, *overrides: str, force: bool = False) -> Runner:
        runner = Runner(
            load_config([str(self.config)], [f"workspace={self.workspace}", *overrides]), "tests", None, force=force
        )
        runner.__dict__["spark"] = self.spark
        return runner

    def tune(self, name: str, *overrides: str, force: bool = False) -> Studied:
        runner = self.runner(*(f"tuning.{override}" for override in overrides), force=force)
        return Studied(runner.run(tuning_stage(runner.config, name)).commit, runner.tracker)

    def copy(self, workspace: Path) -> TuningShop:
        """The same in a workspace of its own, without what studies left; runs are tracked together."""
        left = shutil.ignore_patterns("tuning", "tune_model.*", "scratch", "cache")
        shutil.copytree(self.workspace, workspace, ignore=left)
        return TuningShop(self.spark, self.config, workspace)


@pytest.fixture(scope="package")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> TuningShop:
    folder = tmp_path_factory.mktemp("tuning")
    shop = TuningShop(spark, write_shop(folder), folder / "workspace")
    runner = shop.runner()
    for name in ("clean_events", "build_features", "build_datasets"):
        runner.run(STAGES[name])
    return shop
