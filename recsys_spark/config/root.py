"""The whole configuration of a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.recommenders import Recommenders
from recsys_spark.config.sections import (
    Catalog,
    Datasets,
    Evaluation,
    Fusion,
    RecommenderName,
    Scoring,
    Section,
    Source,
    Spark,
    Split,
    Tables,
    Tracking,
    Training,
)


class Config(Section):
    """Everything that a job needs to know."""

    workspace: str = "./workspace"
    """Folder below which tables, datasets, bundles and mlflow.db live."""
    source: tuple[Source, ...]
    """The event logs: a mapping, or a list of them that is merged."""
    catalog: Catalog | None = None
    """The catalogue, where there is one."""
    split: Split = Split()
    """How events are divided."""
    datasets: Datasets = Datasets()
    """The training datasets."""
    models: tuple[RecommenderName, ...] = ("popularity", "repurchase", "item_knn", "ease", "mfn", "gru")
    """The recommenders to fit and fuse."""
    recommenders: Recommenders = Recommenders()
    """Settings of each recommender."""
    training: Training = Training()
    """How neural recommenders are launched."""
    scoring: Scoring = Scoring()
    """The scoring pass."""
    evaluation: Evaluation = Evaluation()
    """What is measured."""
    fusion: Fusion = Fusion()
    """How scores become one list."""
    tables: Tables = Tables()
    """How tables are published."""
    tracking: Tracking = Tracking()
    """MLflow."""
    spark: Spark = Spark()
    """The Spark session."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 20
    """Seed of everything that draws."""

    @field_validator("source", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if not self.source:
            raise ValueError("source is empty; name at least one event log")
        if not self.models or len(set(self.models)) != len(self.models):
            raise ValueError("models must name at least one recommender, each once")
        if self.datasets.row_groups % self.training.num_processes:
            raise ValueError(
                f"datasets.row_groups ({self.datasets.row_groups}) must be a multiple of "
                f"training.num_processes ({self.training.num_processes})"
            )
        for name in ("mfn", "gru"):
            size = getattr(self.recommenders, name).batch_size
            if size % self.training.num_processes:
                raise ValueError(
                    f"recommenders.{name}.batch_size ({size}) must be a multiple of "
                    f"training.num_processes ({self.training.num_processes})"
                )
        return self
