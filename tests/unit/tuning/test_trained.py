"""How a trial's training is stopped, and what is made of its curve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recsys_spark.training.curve import CURVE
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.worker import train
from recsys_spark.tuning.trained import train_in_task
from tests.unit.training.conftest import make_spec, planted  # noqa: F401 - fixtures


def test_a_training_ends_at_the_end_of_an_epoch_where_its_stop_file_is(
    make_spec: Callable[..., TrainSpec],  # noqa: F811
    tmp_path: Path,
) -> None:
    stop = tmp_path / "stop"
    spec = make_spec(epochs=3, stop_file=str(stop), threads=1)
    assert spec.fingerprint == make_spec(epochs=3).fingerprint, "a stop changes nothing of what is trained"
    stop.touch()
    assert train(spec)["best_epoch"] == 1
    assert (Path(spec.work) / CURVE).read_text().count('"event": "epoch"') == 1
    stop.unlink()
    train(spec)  # goes on from its checkpoint
    assert (Path(spec.work) / CURVE).read_text().count('"event": "epoch"') == 3


def test_what_goes_wrong_in_a_task_is_told_in_a_line(
    make_spec: Callable[..., TrainSpec],  # noqa: F811
    tmp_path: Path,
) -> None:
    message = train_in_task(make_spec(dataset=str(tmp_path / "nowhere")))
    assert message is not None
    assert "nowhere" in message
    assert "\n" not in message
