"""The streaming query: started on its checkpoint, watched, and stopped after the batch that runs."""

from __future__ import annotations

import fcntl
import logging
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from types import FrameType

import numpy as np
import pyarrow as pa
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame

from recsys_spark.config import Config
from recsys_spark.config.streaming import Stream
from recsys_spark.errors import UserError
from recsys_spark.online.opening import open_configured
from recsys_spark.online.store import OnlineStore
from recsys_spark.pipeline.command import Report
from recsys_spark.session import build_session, stop_session
from recsys_spark.streaming.judging import judged, stream_lookups
from recsys_spark.streaming.models import Models, maker
from recsys_spark.streaming.sorting import EVENTS, QUARANTINE
from recsys_spark.streaming.source import claim_checkpoint, lines
from recsys_spark.streaming.taking import Rules, Taken, Taker
from recsys_spark.tables.batches import batches_of, live_path
from recsys_spark.tables.workspace import Workspace

log = logging.getLogger("recsys_spark")
POLL_SECONDS = 0.2
SETTINGS = {
    # Small files share a task: a task costs more than the file.
    "spark.sql.files.openCostInBytes": "65536",
    # What was moved away between listing and reading is no fault.
    "spark.sql.files.ignoreMissingFiles": "true",
}
KEPT_DELAYS = 100_000
"""Batches whose delays the last line tells of: the newest."""


class Stopped(Exception):  # noqa: N818  (named by what happened)
    """The job was told to stop: a batch that had not begun."""


def run_stream(config: Config, *, once: bool = False) -> Report:
    """Take in what comes until the job is told to stop (SIGTERM, SIGINT); with `once`, what is there.

    Raises UserError for a source, checkpoint or configuration that cannot be used, and where another such job runs.
    """
    stream = config.stream
    if once and stream.format == "rate":
        raise UserError("--once: synthetic events never end; leave it out, or choose another stream.format")
    workspace = Workspace(config.workspace)
    workspace.check()
    root = workspace.root / "online"
    with _alone(root), _told_to_stop() as stop:
        checkpoint = claim_checkpoint(stream, root)
        with closing(open_configured(config)) as store:
            work = _streamed(config, store, checkpoint, stop, once)
    outputs = {name: live_path(workspace.root, name) for name in (EVENTS, QUARANTINE)}
    return Report("", outputs, work.metrics(), {"stopped": stop.is_set()})


def _streamed(config: Config, store: OnlineStore, checkpoint: Path, stop: Event, once: bool) -> _Work:
    """Take in what comes, over an open store."""
    stream, root = config.stream, Workspace(config.workspace).root / "online"
    models = Models()
    items = _items(store, models, stream)
    spark = build_session(config, "recsys_spark update_online")
    try:
        # What a batch raises is told once, by this job: not by the bridge to Java too, in pages of text.
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
        for key, value in SETTINGS.items():
            spark.conf.set(key, value)
        taker = Taker(store, batches_of(root.parent), models.load, Rules.of(config), maker(spark, stream.driver_users))
        recovered = taker.recover(stop.is_set)
        if recovered:
            log.info("%d batches of the log were not in the store: processed", recovered)
        frame = judged(lines(spark, stream, root, items), stream, config.cleaning, stream_lookups(spark, config))
        work = _Work(taker, stream, stop)
        _run(work, frame, checkpoint, stream, once)
        return work
    finally:
        stop_session(spark)


class _Work:
    """The body of a micro-batch, and what has been done so far."""

    def __init__(self, taker: Taker, stream: Stream, stop: Event) -> None:
        self._taker, self._max_rows, self.stop = taker, stream.max_rows, stop
        self.stream: Future[str] = Future()
        """The query's name, which lasts as long as its checkpoint."""
        self.error: BaseException | None = None
        self._sums = dict.fromkeys(("batches", "rows", "events", "duplicates", "quarantined", "late", "users"), 0)
        self._delays: list[float] = []
        self._seconds: list[float] = []

    def __call__(self, frame: DataFrame, batch_id: int) -> None:
        """Take a micro-batch in."""
        try:
            if self.stop.is_set():
                frame.sparkSession.sparkContext.setLogLevel("OFF")  # that it ends so is no error to be told
                raise Stopped
            self._add(
                self._taker.take(self.stream.result(timeout=60), batch_id, lambda: _bounded(frame, self._max_rows))
            )
        except BaseException as error:
            self.error = error  # Spark would tell of it in pages of text
            raise

    def metrics(self) -> dict[str, float]:
        """Sums over the batches of this run, and the delays of the newest."""
        told = {name: float(value) for name, value in self._sums.items()}
        for name, values in (("delay", self._delays), ("batch_seconds", self._seconds)):
            if values:
                told |= {f"{name}_median": round(float(np.median(values)), 4)}
                told |= {f"{name}_p99": round(float(np.quantile(values, 0.99)), 4)}
        return told

    def _add(self, taken: Taken) -> None:
        log.info("%s", taken)
        told = {"batches": 1, "events": taken.accepted}
        told |= {name: getattr(taken, name) for name in ("rows", "duplicates", "quarantined", "late", "users")}
        for name, value in told.items():
            self._sums[name] += value
        if taken.delay is not None and not taken.again:
            self._delays.append(taken.delay)
        self._seconds.append(taken.seconds)
        del self._delays[:-KEPT_DELAYS], self._seconds[:-KEPT_DELAYS]


def _bounded(frame: DataFrame, most: int) -> pa.Table:
    """The batch's rows, at most `spark.driver.maxResultSize` of them.

    Raises UserError where there are more than the driver is to hold. (A limit in Spark would cost a stage more.)
    """
    rows = frame.toArrow()
    if rows.num_rows > most:
        raise UserError(
            f"stream.max_rows: the micro-batch has more than {most} rows; raise it for once, and write smaller files "
            "or lower stream.max_files"
        )
    return rows


def _run(work: _Work, frame: DataFrame, checkpoint: Path, stream: Stream, once: bool) -> None:
    """Run the query to its end. Raises what a batch raised."""
    writer = frame.writeStream.foreachBatch(work).option("checkpointLocation", f"file://{checkpoint}")
    timed = writer.trigger(availableNow=True) if once else writer.trigger(processingTime=_interval(stream))
    query = timed.start()
    work.stream.set_result(str(query.id))
    log.info("stream of %s started: checkpoint %s", stream.format, checkpoint)
    while query.isActive:
        if work.stop.wait(POLL_SECONDS):
            # A batch that begins now ends by itself, so that none is interrupted.
            if not query.status["isTriggerActive"]:
                query.stop()
            time.sleep(POLL_SECONDS / 4)
    error = query.exception()
    if work.error is not None and not isinstance(work.error, Stopped):
        raise work.error
    if error is not None and work.error is None:
        raise UserError(_said(error)) from error


def _interval(stream: Stream) -> str:
    return f"{round(stream.trigger_seconds * 1000)} milliseconds"


def _said(error: StreamingQueryException) -> str:
    """What the source said, in one line."""
    return f"stream: {' '.join(str(error).split('JVM stacktrace')[0].split())[:400]}"


def _items(store: OnlineStore, models: Models, stream: Stream) -> list[str]:
    """Items for synthetic events: evenly spaced ones of the vocabulary. Raises UserError where nothing is published."""
    if stream.format != "rate":
        return []
    publication = store.publication()
    if publication is None:
        raise UserError("stream.format rate: draws items of the published model, and there is none; publish first")
    vocabulary = models.load(publication).champion.vocabulary
    codes = np.unique(np.linspace(0, vocabulary.size - 1, min(stream.rate_items, vocabulary.size)).astype(np.int64))
    return list(vocabulary.ids_of(codes).to_pylist())


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """No other such job on this workspace. Raises UserError where there is one."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "stream.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{root}: another update_online takes events in; only one may, stop that first") from None
        yield


@contextmanager
def _told_to_stop() -> Iterator[Event]:
    """An event that SIGTERM and SIGINT set; a second SIGINT interrupts as usual."""
    stop = Event()

    def set_it(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        log.info("told to stop: after the batch that runs")
        stop.set()

    before = {number: signal.signal(number, set_it) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
