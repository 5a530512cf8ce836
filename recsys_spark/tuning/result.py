"""What a study leaves: the best settings as a configuration file, and a list of all trials."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.pipeline.stage import FILES, StageContext, StageResult
from recsys_spark.tuning.referee import NDCG, VALID_K
from recsys_spark.tuning.space import told, with_settings
from recsys_spark.tuning.study import ERROR, PLACE, RUN, TuningStudy, Verdict

BEST, TRIALS = "best.yaml", "trials.json"


def study_result(context: StageContext, study: TuningStudy, name: str, key: str) -> StageResult:
    """Write `best.yaml` and `trials.json`, also to MLflow. Raises UserError where no trial was finished."""
    best = study.best
    if best is None or best.value is None:
        raise UserError(f"tuning of {name}: no trial was finished; check tuning.space.{name}")
    values, place = study.values(best), best.user_attrs[PLACE] + 1
    comment = (
        f"The best of {len(study.settled)} trials of {name}: NDCG@{VALID_K} {best.value:.4f} on the valid window, by "
        f"trial {place} of study {key[:16]} ({told(values)})"
    )
    write_best(context.run_directory / BEST, with_settings(context.config, name, values, "tuning.space"), name, comment)
    trials = [_row(study, trial) for trial in study.settled]
    (context.run_directory / TRIALS).write_text(json.dumps(trials, indent=1), encoding="utf-8")
    for file in (BEST, TRIALS):
        context.tracked.log_artifact(context.run_directory / file)
    context.tracked.log_params({f"best.{setting}": value for setting, value in values.items()})
    context.progress(comment)
    counts = Counter(trial["state"] for trial in trials)
    return StageResult(
        metrics={NDCG: best.value, **{f"trials.{state}": float(counts[state]) for state in Verdict.STATES}},
        facts={FILES: [BEST, TRIALS], "best": values, "study": key, "trial": place},
    )


def write_best(path: Path, config: Config, name: str, comment: str) -> None:
    """Write all settings of the recommender, tried or not: a file to be given as a further `--config`."""
    settings: Mapping[str, Any] = getattr(config.recommenders, name).model_dump(mode="json")
    body = yaml.safe_dump({"recommenders": {name: dict(settings)}}, sort_keys=False)
    use = f"jobs/train_models.py --config YOURS.yaml --config {path.name}"
    path.write_text(f"# {comment}.\n# Use: {use}\n{body}", encoding="utf-8")


def _row(study: TuningStudy, trial: FrozenTrial) -> dict[str, Any]:
    verdict = Verdict.of(trial)
    return {
        "trial": trial.user_attrs[PLACE] + 1,
        "state": verdict.state,
        NDCG: verdict.value,
        "settings": study.values(trial),
        "curve": {str(epoch): ndcg for epoch, ndcg in verdict.curve.items()},
        "error": trial.user_attrs.get(ERROR),
        "run_id": trial.user_attrs.get(RUN),
    }
