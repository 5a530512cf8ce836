"""Where live events come from, and what is refused before any is read."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.config.streaming import Stream
from recsys_spark.errors import UserError
from recsys_spark.streaming.running import run_stream
from recsys_spark.streaming.source import claim_checkpoint, lines

SOURCE = {"format": "csv", "path": "x.csv", "columns": {"user_id": "u", "item_id": "i", "event_time": "t"}}
KAFKA = {"kafka.bootstrap.servers": "127.0.0.1:1", "subscribe": "events"}


def config(folder: Path, **stream: object) -> Config:
    return Config.model_validate(
        {"workspace": str(folder), "source": {**SOURCE, "event_type": "click"}, "stream": stream}
    )


def test_a_checkpoint_is_of_one_source(tmp_path: Path) -> None:
    own = Stream(path=str(tmp_path / "here"))
    assert claim_checkpoint(own, tmp_path) == claim_checkpoint(own, tmp_path) == tmp_path / "checkpoint"
    with pytest.raises(UserError, match=r"belongs to json .*here, not to json .*there; name another folder"):
        claim_checkpoint(Stream(path=str(tmp_path / "there")), tmp_path)
    with pytest.raises(UserError, match=r"not to kafka 127\.0\.0\.1:1 events"):
        claim_checkpoint(Stream(format="kafka", options=KAFKA), tmp_path)
    (tmp_path / "alien").mkdir()
    (tmp_path / "alien" / "metadata").write_text("{}")
    with pytest.raises(UserError, match="not a checkpoint of this job"):
        claim_checkpoint(Stream(checkpoint=str(tmp_path / "alien")), tmp_path)


def test_only_one_job_takes_events_in(tmp_path: Path) -> None:
    (tmp_path / "online").mkdir()
    with (tmp_path / "online" / "stream.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another update_online"):
            run_stream(config(tmp_path))


def test_synthetic_events_have_no_end_and_need_a_published_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--once"):
        run_stream(config(tmp_path, format="rate"), once=True)
    with pytest.raises(UserError, match="publish first"):
        run_stream(config(tmp_path, format="rate"))


def test_without_kafkas_connector_it_is_said_what_to_do(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="connector is not on the class path; start the job with spark-submit"):
        lines(spark, Stream(format="kafka", options=KAFKA), tmp_path, [])


def test_a_secret_comes_from_the_environment(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the environment variable NO_SUCH_JAAS is not set"):
        lines(
            spark,
            Stream(format="kafka", options=KAFKA, options_env={"kafka.sasl.jaas.config": "NO_SUCH_JAAS"}),
            tmp_path,
            [],
        )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"options": {"kafka.sasl.jaas.config": "x"}}, "use options_env"),
        ({"options": {"maxFilesPerTrigger": "1"}}, "set by other keys"),
        ({"columns": {"person": "user_id"}}, "unknown names"),
        ({"format": "kafka"}, "kafka.bootstrap.servers"),
        ({"format": "rate", "path": "x"}, "path is for format json"),
    ],
)
def test_what_cannot_be_meant_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Stream.model_validate(keys)


def test_events_are_not_forgotten_before_they_are_too_late() -> None:
    given = {"source": {**SOURCE, "event_type": "click"}, "online": {"ttl_days": 3}}
    assert Config.model_validate({**given, "stream": {"lateness_hours": 72}})
    with pytest.raises(ValidationError, match="an event that came again would be taken as new"):
        Config.model_validate({**given, "stream": {"lateness_hours": 72.5}})


def test_a_columns_key_may_be_named_without_the_others() -> None:
    assert Stream.model_validate({"columns": {"item_id": "sku"}}).columns["user_id"] == "user_id"
