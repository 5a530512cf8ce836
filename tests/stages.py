"""Run one stage's body in a workspace of its own, as the runner would, without MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.config import Config
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.tables.pointer import Commit, publish
from recsys_spark.tables.workspace import Workspace

UPSTREAM = {
    "clean_events": (),
    "build_features": ("clean_events",),
    "build_datasets": ("clean_events", "build_features"),
    "fit_features": ("clean_events", "build_features", "build_datasets"),
}


class Tracked:
    """Stands in for the stage's MLflow run, and keeps what was logged."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}
        """Content of each logged file by its place among the artifacts."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self.artifacts[f"{folder}/{path.name}" if folder else path.name] = path.read_bytes()

    def log_json(self, obj: Any, artifact_file: str) -> None:
        self.artifacts[artifact_file] = json.dumps(obj).encode()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def log_params(self, params: Mapping[str, Any]) -> None: ...

    def set_tags(self, tags: Mapping[str, Any]) -> None: ...


class Shop:
    """A workspace with the stages that were run in it."""

    def __init__(self, spark: SparkSession, root: Path, **config: Any) -> None:
        self.spark = spark
        self.root = root
        self.workspace = Workspace(str(root / "workspace"))
        self.settings = config
        self.tracked = Tracked()
        self.told: list[str] = []
        """The log lines."""

    def config(self, **changes: Any) -> Config:
        return Config.model_validate({**self.settings, **changes})

    def run(
        self,
        stage: str,
        body: Callable[[StageContext], StageResult],
        as_of: datetime | None = None,
        run_id: str = "run",
        **changes: Any,
    ) -> Commit:
        context = StageContext(
            stage=stage,
            config=self.config(**changes),
            workspace=self.workspace,
            as_of=as_of,
            run_id=run_id,
            inputs={name: self.workspace.require(name) for name in UPSTREAM[stage]},
            run_directory=self.workspace.new_run_directory(stage, run_id),
            session=lambda: self.spark,
            progress=self.told.append,
            tracker=cast(Any, None),
            tracked=cast(Any, self.tracked),
            run_part=cast(Any, None),
        )
        result = body(context)
        return publish(
            self.workspace.stage_directory(stage),
            stage,
            context.run_directory,
            key="key",
            run_id=run_id,
            tables=context.tables,
            inputs={},
            metrics=result.metrics,
            facts=result.facts,
            as_of=None,
        )

    def table(self, name: str, commit: Commit | None = None) -> DataFrame:
        return self.workspace.read_table(self.spark, name, commit)
