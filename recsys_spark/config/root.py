"""The whole configuration of a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.allowed import LocalPath
from recsys_spark.config.cleaning import Cleaning
from recsys_spark.config.features import Features
from recsys_spark.config.monitoring import Monitoring
from recsys_spark.config.online import Online
from recsys_spark.config.promotion import Promotion
from recsys_spark.config.quality import Quality
from recsys_spark.config.recommenders import NEURAL, Recommenders
from recsys_spark.config.retraining import Retraining
from recsys_spark.config.rules import Rules
from recsys_spark.config.schedule import Schedule
from recsys_spark.config.section import Section
from recsys_spark.config.sections import (
    Datasets,
    Evaluation,
    Fusion,
    RecommenderName,
    Scoring,
    Spark,
    Split,
    Tables,
    Tracking,
    Training,
)
from recsys_spark.config.serving import Serving
from recsys_spark.config.sources import Catalog, Demographics, Source
from recsys_spark.config.streaming import Stream
from recsys_spark.config.tuning import Tuning


class Config(Section):
    """Everything that a job needs to know."""

    workspace: LocalPath = "./workspace"
    """Folder below which tables, datasets, bundles and mlflow.db live."""
    source: tuple[Source, ...]
    """The event logs: a mapping, or a list of them that is merged."""
    catalog: Catalog | None = None
    """The catalogue, where there is one."""
    demographics: Demographics | None = None
    """What is known of users, where it is."""
    cleaning: Cleaning = Cleaning()
    """Which rows are kept."""
    quality: Quality = Quality()
    """What a run must meet before it is published."""
    split: Split = Split()
    """How events are divided."""
    datasets: Datasets = Datasets()
    """The training datasets."""
    features: Features = Features()
    """Features of items and users."""
    models: tuple[RecommenderName, ...] = ("popularity", "repurchase", "item_knn", "ease", "mfn", "gru")
    """The recommenders to fit and fuse."""
    recommenders: Recommenders = Recommenders()
    """Settings of each recommender."""
    training: Training = Training()
    """How neural recommenders are launched."""
    retraining: Retraining = Retraining()
    """When a night's run trains, and where training starts."""
    tuning: Tuning = Tuning()
    """The search for a recommender's settings."""
    scoring: Scoring = Scoring()
    """The scoring pass."""
    evaluation: Evaluation = Evaluation()
    """What is measured."""
    fusion: Fusion = Fusion()
    """How scores become one list."""
    rules: Rules = Rules()
    """What the shop wants of its lists: business rules, diversity, exploration."""
    promotion: Promotion = Promotion()
    """How a challenger becomes champion."""
    monitoring: Monitoring = Monitoring()
    """What is watched every day."""
    online: Online = Online()
    """What is kept of users in real time."""
    stream: Stream = Stream()
    """The stream of live events: what `update_online` reads, and in which portions."""
    serving: Serving = Serving()
    """The HTTP service over the online store."""
    schedule: Schedule = Schedule()
    """What makes a job safe under any scheduler."""
    tables: Tables = Tables()
    """How tables are published."""
    tracking: Tracking = Tracking()
    """MLflow."""
    spark: Spark = Spark()
    """The Spark session."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 20
    """Seed of everything that draws."""

    @property
    def daily(self) -> bool:
        """Do raw rows land by arrival date."""
        return any(source.arrival is not None for source in self.source)

    @field_validator("source", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if not self.source:
            raise ValueError("source is empty; name at least one event log")
        if self.daily and any(source.arrival is None for source in self.source):
            raise ValueError("give every source an arrival, or none: a day is cleaned from all that arrived for it")
        if self.evaluation.logged is not None and self.split.strategy != "temporal":
            raise ValueError("evaluation.logged needs split.strategy temporal: leave_one_out has no window of time")
        if self.promotion.k is not None and self.promotion.k > max(self.evaluation.k):
            raise ValueError(
                f"promotion.k ({self.promotion.k}) must be at most the largest of evaluation.k "
                f"({max(self.evaluation.k)}): lists are evaluated to that length"
            )
        if self.retraining.warm_start and self.split.strategy != "temporal":
            raise ValueError("retraining.warm_start needs split.strategy temporal: leave_one_out has no cut in time")
        if self.fusion.stack_days is not None and self.split.strategy != "temporal":
            raise ValueError("fusion.stack_days needs split.strategy temporal: leave_one_out has no window of time")
        if self.stream.lateness_hours > 24 * self.online.ttl_days:
            raise ValueError(
                f"stream.lateness_hours ({self.stream.lateness_hours:g}) is longer than online.ttl_days "
                f"({self.online.ttl_days:g} days), for which event ids are known: an event that came again would be "
                "taken as new"
            )
        unknown = sorted(set(self.fusion.cascade.retrieve or ()) - set(self.models))
        if unknown or self.fusion.cascade.retrieve == ():
            raise ValueError(f"fusion.cascade.retrieve must name some of models; it names {unknown or 'none'}")
        if not self.models or len(set(self.models)) != len(self.models):
            raise ValueError("models must name at least one recommender, each once")
        attributes = () if self.demographics is None else sorted(set(self.demographics.columns) - {"user_id"})
        self.rules.check(self.fusion.k, self.models, attributes)
        if self.datasets.row_groups % self.training.num_processes:
            raise ValueError(
                f"datasets.row_groups ({self.datasets.row_groups}) must be a multiple of "
                f"training.num_processes ({self.training.num_processes})"
            )
        for name in NEURAL:
            size = getattr(self.recommenders, name).batch_size
            if size % self.training.num_processes:
                raise ValueError(
                    f"recommenders.{name}.batch_size ({size}) must be a multiple of "
                    f"training.num_processes ({self.training.num_processes})"
                )
        for name in sorted(set(self.models) & set(NEURAL)):
            if "bert" in getattr(self.recommenders, name).item_encoder and self.features.tokenizer is None:
                raise ValueError(f"models: {name} reads subwords; set features.tokenizer to the folder of a BERT model")
        return self
