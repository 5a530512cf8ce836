"""The configuration of the stream: where live events come from, and how they are taken in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.allowed import LocalPath, Variable
from recsys_spark.config.predicates import check_predicates
from recsys_spark.config.reader_options import stream_options
from recsys_spark.config.section import Positive, PositiveFloat, Section
from recsys_spark.config.sources import EVENT_COLUMNS, Source
from recsys_spark.redaction import is_secret

OURS = {"maxfilespertrigger", "maxoffsetspertrigger", "latestfirst", "cleansource", "sourcearchivedir", "rowspersecond"}
"""Options of Spark's readers that keys of this section set."""


class Stream(Section):
    """The stream of live events: what `jobs/update_online.py` reads, and in which portions."""

    format: Literal["json", "kafka", "rate"] = "json"
    """Where events come from: a folder of JSON lines files; Kafka, whose values are such lines (the connector
    `spark-sql-kafka-0-10` must be on Spark's class path); or synthetic events, for load tests."""
    path: LocalPath | None = None
    """json: the folder; by default `<workspace>/online/events`. A file must appear whole: write it under a name that
    begins with a dot, then rename it."""
    options: dict[str, str] = {}
    """Options handed to Spark's reader, such as `{kafka.bootstrap.servers: "host:9092", subscribe: events}`."""
    options_env: dict[str, Variable] = {}
    """Options whose values stand in environment variables, such as `{kafka.sasl.jaas.config: KAFKA_JAAS}`: secrets."""
    columns: dict[str, str] = {name: name for name in EVENT_COLUMNS}
    """Our column to the key in the JSON object, as it is spelled there."""
    event_id: str = "event_id"
    """The key of what names an event: a second event of the same name is a duplicate. An event without one is named by
    its whole text."""
    event_types: dict[str, str] = {}
    """Their event types to ours, such as `{buy: purchase}`; where given, other values are quarantined."""
    timestamp_format: str | None = None
    """Spark's pattern of `event_time`; ISO 8601 or seconds to nanoseconds since 1970 where it is not given."""
    reject: dict[str, str] = {}
    """Reason to a Spark SQL predicate on the mapped keys: events for which it is true are quarantined."""
    lateness_hours: PositiveFloat = 72.0
    """The watermark: events that are so much older than the newest one taken in before are quarantined (`too_late`)."""
    ahead_seconds: Annotated[float, Field(ge=0, le=86400)] = 300.0
    """Seconds by which an event may be from after the moment at which it is taken in (`future_time` beyond)."""
    trigger_seconds: Annotated[float, Field(ge=0.05, le=3600)] = 0.5
    """Seconds from the start of one micro-batch to that of the next, where it does not take longer."""
    max_files: Positive = 200
    """json: files of a micro-batch at most."""
    max_rows: Annotated[int, Field(gt=0, le=1_000_000)] = 100_000
    """Rows of a micro-batch at most, which the driver holds: a portion of Kafka; where files hold more, the job stops
    and says so."""
    driver_users: Positive = 2000
    """Users whose lists are made by the driver; where a micro-batch concerns more, Spark's tasks make them."""
    finished_files: Literal["keep", "archive", "delete"] = "keep"
    """json: what becomes of a file after its micro-batch: it stays, goes below `<workspace>/online/archive`, or goes.
    Listing the folder costs time for each file that stays."""
    checkpoint: LocalPath | None = None
    """Folder in which Spark notes what it has read; by default `<workspace>/online/checkpoint`."""
    rows_per_second: Positive = 100
    """rate: events a second."""
    rate_users: Positive = 1000
    """rate: users who have the events."""
    rate_items: Annotated[int, Field(gt=0, le=10_000)] = 500
    """rate: items of the vocabulary, evenly spaced, that the events are with."""

    @field_validator("options")
    @classmethod
    def _plain(cls, options: dict[str, str]) -> dict[str, str]:
        for name in options:
            if is_secret(name):
                raise ValueError(f"options.{name} would be a secret in a file that is logged; use options_env")
            if name.lower() in OURS:
                raise ValueError(f"options.{name} is set by other keys of this section; see docs/configuration.md")
        stream_options(options)
        return options

    @field_validator("options_env")
    @classmethod
    def _known(cls, options: dict[str, str]) -> dict[str, str]:
        stream_options(options)
        return options

    @field_validator("reject")
    @classmethod
    def _conditions(cls, predicates: dict[str, str]) -> dict[str, str]:
        check_predicates(predicates)
        return predicates

    @field_validator("columns", mode="before")
    @classmethod
    def _over_the_defaults(cls, given: object) -> object:
        return {**{name: name for name in EVENT_COLUMNS}, **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _complete(self) -> Stream:
        unknown = sorted(set(self.columns) - set(EVENT_COLUMNS))
        if unknown:
            raise ValueError(f"columns has unknown names {unknown}; known are {list(EVENT_COLUMNS)}")
        if self.path is not None and self.format != "json":
            raise ValueError(f"path is for format json, not for {self.format}")
        if self.format == "kafka" and "kafka.bootstrap.servers" not in {**self.options, **self.options_env}:
            raise ValueError("options lacks kafka.bootstrap.servers; kafka needs it, and subscribe or assign")
        return self

    @property
    def source(self) -> Source:
        """What the cleaning rules are told of the stream: a source of JSON objects."""
        return Source(
            format="json",
            path=self.path or "online/events",
            columns=self.columns,
            event_types=self.event_types,
            timestamp_format=self.timestamp_format,
            reject=self.reject,
        )
