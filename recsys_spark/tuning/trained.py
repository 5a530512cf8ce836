"""Trials of recommenders that are trained: one after the other by TorchDistributor, or several at once as Spark tasks.

Either way the driver follows each training's curve, asks the referee after each epoch, and stops a training by a file
beside its checkpoints, at which the training looks at the end of each epoch.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from recsys_spark.errors import UserError
from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.training.curve import CURVE, CurveFollower
from recsys_spark.training.launch import launch
from recsys_spark.training.ownership import take_over
from recsys_spark.training.spec import TrainSpec
from recsys_spark.tuning.referee import NDCG, Referee
from recsys_spark.tuning.study import Verdict

OnEpoch = Callable[[int, Mapping[str, Any]], None]
"""Is told the place of a training among its batch, and a point of its curve at an epoch's end."""
STOP = "stop"


@dataclass
class Training:
    """A training of a batch."""

    inputs: FitInputs
    spec: TrainSpec
    error: str | None = None

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The points of its curve at the ends of epochs, of all the times that it was started."""
        file = Path(self.spec.work) / CURVE
        if not file.exists():
            return []
        text = file.read_text(encoding="utf-8")
        points = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [point for point in points if point["event"] == "epoch" and point.get(NDCG) is not None]

    @property
    def curve(self) -> dict[int, float]:
        """Valid NDCG@10 by epoch."""
        return {int(point["epoch"]): float(point[NDCG]) for point in self.epochs}


def train_batch(all_inputs: Sequence[FitInputs], referee: Referee, on_epoch: OnEpoch, in_tasks: bool) -> list[Verdict]:
    """Train with each of the inputs; what became of each, in their order.

    With `in_tasks` each is trained by one Spark task, else by one launch of TorchDistributor after the other. Raises
    RuntimeError where the tasks die again and again: the trainings go on from their checkpoints when run again.
    """
    from recsys_spark.fitting.neural import make_spec

    trainings = []
    for inputs in all_inputs:
        spec = make_spec(inputs)
        stop = Path(spec.work) / STOP
        stop.unlink(missing_ok=True)
        trainings.append(Training(inputs, replace(spec, stop_file=str(stop), threads=1 if in_tasks else None)))
    for place, training in enumerate(trainings):
        for point in training.epochs:  # of a driver that was killed
            on_epoch(place, point)
    going = [training for training in trainings if referee.stop_epoch(training.curve) is None]
    with ExitStack() as followers:
        for training in going:
            place, curve = trainings.index(training), Path(training.spec.work) / CURVE
            followers.enter_context(CurveFollower(curve, _Watch(training, place, referee, on_epoch)))
        if in_tasks:
            _run_in_tasks(going)
        else:
            for training in going:
                _launch(training)
    return [_verdict(training, referee) for training in trainings]


class _Watch:
    """Asks the referee at each epoch's end; one at a time, though each curve is followed by its own thread."""

    _turn = threading.Lock()

    def __init__(self, training: Training, place: int, referee: Referee, on_epoch: OnEpoch) -> None:
        self._training = training
        self._place = place
        self._referee = referee
        self._on_epoch = on_epoch

    def __call__(self, point: Mapping[str, Any]) -> None:
        if point["event"] != "epoch":
            return
        with self._turn:
            self._on_epoch(self._place, point)
            if self._referee.stop_epoch(self._training.curve) is not None:
                Path(self._training.spec.work, STOP).touch()


def _verdict(training: Training, referee: Referee) -> Verdict:
    """By the curve alone, so that it does not matter how soon the training saw that it was stopped."""
    curve = training.curve
    stopped = referee.stop_epoch(curve)
    if stopped is not None:
        return Verdict({epoch: ndcg for epoch, ndcg in curve.items() if epoch <= stopped}, None)
    if training.error is None and not curve:
        return Verdict({}, None, "the training measured no valid NDCG@10")
    return Verdict(curve, None if training.error else max(curve.values()), training.error)


def _launch(training: Training) -> None:
    inputs = training.inputs
    try:
        launch(
            inputs.spark, training.spec, inputs.config.training.retries, inputs.progress, lambda name, value, step: None
        )
    except UserError:
        raise
    except RuntimeError as error:
        training.error = _short(error)


def _run_in_tasks(trainings: Sequence[Training]) -> None:
    """One Spark task each. A task that dies takes the others of its job along: the job is started again."""
    if not trainings:
        return
    spark: SparkSession = trainings[0].inputs.spark
    retries = trainings[0].inputs.config.training.retries
    for attempt in range(retries + 1):
        specs = [_taken_over(training.spec) for training in trainings]
        try:
            messages = spark.sparkContext.parallelize(specs, len(specs)).map(train_in_task).collect()  # a line each
        except Exception as error:  # Spark's or Py4J's, where a Python worker died
            failure = error
            told = f"tasks died at attempt {attempt + 1} of {retries + 1}: {_short(error)}"
            trainings[0].inputs.progress(told)
            continue
        for training, message in zip(trainings, messages, strict=True):
            training.error = message
        return
    raise RuntimeError("the training tasks died again and again; run the job again to go on") from failure


def _taken_over(spec: TrainSpec) -> TrainSpec:
    """The training under a new name, at which tasks that an earlier attempt left behind end."""
    owner = uuid.uuid4().hex
    take_over(Path(spec.work), owner)
    return replace(spec, launch=owner)


def train_in_task(spec: TrainSpec) -> str | None:
    """Train within a Spark task, on the dataset where the workspace has it; what went wrong, or None."""
    from recsys_spark.training.worker import train

    try:
        train(spec)
    except Exception as error:
        return _short(error)
    return None


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
