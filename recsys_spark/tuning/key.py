"""What makes two runs of the job work on the same study."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from recsys_spark.config import Config
from recsys_spark.config.recommenders import NEURAL
from recsys_spark.pipeline.keys import code_version, config_value
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tuning.space import Space

JUDGED_BY = ("evaluation.target_events", "evaluation.cold", "fusion.repeats", "training.valid_users")
"""Settings outside the recommender's own on which a trial's value depends."""
TRAINED_BY = ("precision", "sync")
"""Settings of `training` on which a trained model depends,"""
TRAINED_LOCALLY_BY = ("local_steps", "outer_momentum", "outer_learning_rate", "num_processes")
"""and those on which it depends besides where processes step alone."""


def study_key(context: StageContext, space: Space) -> str:
    """A hash of the data, the code, the recommender with its fixed settings, the space, how it is searched, the seed.

    Trials of other code are not compared with each other: the same settings may have another value there.
    """
    config, tuning = context.config, context.config.tuning
    datasets = context.inputs["build_datasets"]
    fixed = {
        setting: value
        for setting, value in getattr(config.recommenders, space.name).model_dump(mode="json").items()
        if setting not in space.ranges
    }
    content = {
        "data": datasets.facts["versions"]["select"],
        "inputs": {name: commit.key for name, commit in context.inputs.items() if name != "build_datasets"},
        "code": code_version(),
        "model": space.name,
        "fixed": fixed,
        "training": _training(config) if space.name in NEURAL else {},
        "space": {setting: range_.model_dump(mode="json") for setting, range_ in space.ranges.items()},
        "order": list(space.ranges),
        "tuning": tuning.model_dump(mode="json", exclude={"space", "trials", "parallel"}),
        "judged_by": {key: config_value(config, key) for key in JUDGED_BY},
        "seed": config.seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _training(config: Config) -> dict[str, Any]:
    names = (*TRAINED_BY, *(TRAINED_LOCALLY_BY if config.training.sync == "local" else ()))
    return {name: getattr(config.training, name) for name in names}
