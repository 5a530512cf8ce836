"""Does this run train: triggers, how far each is from firing, and the decision as it is told.

The last training is the newest registered challenger: it is registered when everything was fitted, evaluated and
published, so that a run that died half-way has trained nothing. What it was made from, its settings among it, stands
in its tags.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recsys_spark.config import Config
from recsys_spark.config.retraining import Retraining
from recsys_spark.monitoring.finding import Finding
from recsys_spark.monitoring.kinds import KINDS
from recsys_spark.monitoring.measured import STAGE as MONITOR
from recsys_spark.monitoring.measured import read_findings
from recsys_spark.pipeline.keys import config_value
from recsys_spark.pipeline.serving import MODEL_NAME, made_here
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import CHALLENGER, aliased
from recsys_spark.tracking.runs import Tracker

SETTINGS = "learned_settings"
"""The tag of a registered model that holds the hash of the settings that it was learned by."""
LEARNED_BY = (
    *("source", "catalog", "demographics", "cleaning"),
    *("split", "datasets", "features", "models", "recommenders", "training", "seed"),
    *("evaluation.target_events", "evaluation.refit", "retraining.warm_start", "retraining.warm_epochs"),
)
"""Keys of the configuration that what is learned depends on, besides those of `fusion`."""
WHERE_ROWS_LIE = ("path", "options", "password_env")
"""Keys of files that say where rows are and how they are stored, not what they mean."""
OF_LISTS = ("k", "use", "explain_items")
"""Keys of `fusion` that only the lists depend on."""
ACCURACY = "outcomes.ndcg_ratio"
"""The kind of measure that tells how good the lists were that were live, as a multiple of what is usual."""
MOST_DAYS, LEAST_DAYS = 7, 3
"""Monitored days whose median is looked at."""


@dataclass(frozen=True)
class Trigger:
    """One reason to train, and how things stand with it."""

    name: str
    fired: bool
    sentence: str
    value: float | None = None
    limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "fired": self.fired, "value": self.value, "limit": self.limit, "why": self.sentence}


@dataclass(frozen=True)
class Decision:
    """Whether a run trains, and why."""

    train: bool
    why: str
    triggers: tuple[Trigger, ...] = ()

    @property
    def fired(self) -> list[str]:
        """Names of the triggers that fired."""
        return [trigger.name for trigger in self.triggers if trigger.fired]

    @property
    def metrics(self) -> dict[str, float]:
        """The triggers' values, and 1 where the run trains."""
        values = {f"retraining.{each.name}": each.value for each in self.triggers if each.value is not None}
        return {**values, "retraining.train": float(self.train)}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the job's line."""
        return {"train": self.train, "why": self.why, "triggers": [trigger.to_json() for trigger in self.triggers]}


@dataclass(frozen=True)
class Standing:
    """What triggers look at."""

    age_days: float
    """Days from the end of the data of the last training to that of the newest."""
    new_items_share: float
    """Share of the items with events that the last training does not know."""
    monitored: Sequence[Finding] = ()
    """Findings of the days that were monitored since the last training, by day."""


def learned_settings(config: Config) -> str:
    """sha256 of the settings that what is learned depends on."""
    values = {key: _meaning(config_value(config, key)) for key in LEARNED_BY}
    fusion = {key: value for key, value in config_value(config, "fusion").items() if key not in OF_LISTS}
    return hashlib.sha256(json.dumps([values, fusion], sort_keys=True).encode()).hexdigest()


def _meaning(value: Any) -> Any:
    """A configured value without what only tells where rows lie."""
    if isinstance(value, dict):
        return {key: _meaning(inner) for key, inner in value.items() if key not in WHERE_ROWS_LIE}
    return [_meaning(inner) for inner in value] if isinstance(value, list) else value


def decide(config: Config, workspace: Workspace, tracker: Tracker) -> Decision:
    """Does the run train whose datasets are the newest ones."""
    newest = workspace.require("build_datasets")
    challenger = aliased(tracker, MODEL_NAME, CHALLENGER)
    if challenger is None:
        return _must("first", "no model was trained yet")
    trained = made_here(workspace, challenger, "build_datasets")
    if trained is None:
        return _must("first", f"what {MODEL_NAME}/{challenger.version} was trained on is not in this workspace")
    if trained.key == newest.key:
        return Decision(True, f"{MODEL_NAME}/{challenger.version} was trained on this very data: what is done stays")
    if challenger.tags.get(SETTINGS) != learned_settings(config):
        return _must("settings", f"settings changed since {MODEL_NAME}/{challenger.version} was trained")
    age = (_end(newest) - _end(trained)) / timedelta(days=1)
    if age < 0:
        return _must("earlier", f"{MODEL_NAME}/{challenger.version} was trained on data until {trained.as_of}, later")
    first, last = _end(trained).date(), (_end(newest) - timedelta(days=1)).date()
    share = unknown_share(_vocabulary(newest), _vocabulary(trained))
    monitored = read_findings(workspace.latest(MONITOR), first, last)
    return judged(config.retraining, Standing(age, share, monitored))


def judged(settings: Retraining, standing: Standing) -> Decision:
    """The decision by the triggers that have a limit."""
    age, share = standing.age_days, standing.new_items_share
    triggers = []
    if settings.max_age_days is not None:
        said = f"the last training is {age:g} days of data old, the limit is {settings.max_age_days:g}"
        triggers.append(Trigger("age", age >= settings.max_age_days, said, age, settings.max_age_days))
    if settings.new_items_share is not None:
        limit = settings.new_items_share
        said = f"{share:.2%} of the items with events are new since the last training, the limit is {limit:.2%}"
        triggers.append(Trigger("new_items", share >= limit, said, share, limit))
    if settings.drift:
        triggers.append(_drift(settings.drift, standing.monitored))
    if settings.lost_accuracy is not None:
        triggers.append(_lost(settings.lost_accuracy, standing.monitored))
    fired = [trigger for trigger in triggers if trigger.fired]
    if fired and age < settings.min_age_days:
        waits = f"it waits until the last training is {settings.min_age_days:g} days old, which is {age:g}"
        return Decision(False, f"{'; '.join(each.sentence for each in fired)}; {waits}", tuple(triggers))
    why = "; ".join(each.sentence for each in fired) or "no trigger fired"
    return Decision(bool(fired), why, tuple(triggers))


def unknown_share(newest: Path, trained: Path) -> float:
    """The share of the items of one vocabulary that another does not know. Item-sized: two columns of numbers."""
    items, known = (pq.read_table(path, columns=["item_index"])["item_index"].to_numpy() for path in (newest, trained))
    return float(1.0 - np.isin(items, known).mean()) if len(items) else 0.0


def _drift(kinds: Sequence[str], monitored: Sequence[Finding]) -> Trigger:
    """Is one of the kinds at alert on the newest monitored day; the value is how many of their measures are."""
    day = _newest(monitored)
    if day is None:
        return Trigger("drift", False, "no day was monitored since the last training", limit=1.0)
    alerts = [each.measure for each in monitored if each.status == "alert"]
    found = [measure for measure in alerts if measure.day == day and measure.key in kinds]
    names = ", ".join(f"{measure.key} {measure.subject}".strip() for measure in found[:5])
    said = f"on {day} {len(found)} measures were at alert: {names}" if found else f"nothing drifted on {day}"
    return Trigger("drift", bool(found), said, float(len(found)), 1.0)


def _lost(limit: float, monitored: Sequence[Finding]) -> Trigger:
    """The median share of the usual NDCG that was lost on the last monitored days."""
    measures = sorted((each.measure for each in monitored if each.measure.key == ACCURACY), key=lambda one: one.day)
    counted = [one for one in measures if one.rows is None or one.rows >= KINDS[ACCURACY].least_rows]
    lost = [1.0 - one.value for one in counted if one.value is not None][-MOST_DAYS:]
    if len(lost) < LEAST_DAYS:
        said = f"{len(lost)} days with outcomes since the last training: too few"
        return Trigger("lost_accuracy", False, said, limit=limit)
    value = statistics.median(lost)
    said = f"the lists lost {value:.1%} of the usual NDCG over {len(lost)} days, the limit is {limit:.1%}"
    return Trigger("lost_accuracy", value >= limit, said, value, limit)


def _must(name: str, said: str) -> Decision:
    return Decision(True, said, (Trigger(name, True, said),))


def _newest(monitored: Sequence[Finding]) -> date | None:
    return max((each.measure.day for each in monitored), default=None)


def _vocabulary(datasets: Commit) -> Path:
    return datasets.path("datasets") / "publish" / "vocabulary.parquet"


def _end(commit: Commit) -> datetime:
    assert commit.as_of is not None, "datasets are dated"
    return datetime.fromisoformat(commit.as_of)
