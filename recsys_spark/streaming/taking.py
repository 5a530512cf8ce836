"""Taking a micro-batch in, once: files first, then the store, each in one atomic step. Needs no Spark.

A batch is sorted and written to the batch log under the next number; then what it changes is committed to the store
under that number. Killed before the log has it, the batch is sorted again; killed before the store has it, it is
processed again from the log, from the store as it was; killed before Spark notes it, it is found in both. So each event
counts once, whatever happens, and the log tells in which portions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from recsys_spark.config import Config
from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.step import Learner, Maker, live_of_store, make_here, process_batch
from recsys_spark.online.store import OnlineStore, Publication
from recsys_spark.streaming.judging import EVENT_ID
from recsys_spark.streaming.sorting import EVENTS, QUARANTINE, Moment, live_events, sort_rows
from recsys_spark.tables.batches import Batch, BatchLog

log = logging.getLogger("recsys_spark")
EXPIRE_SECONDS = 3600.0
"""Seconds between two looks for users whose time in the store is over."""


@dataclass(frozen=True)
class Taken:
    """What became of a micro-batch."""

    number: int
    """In the batch log."""
    rows: int
    accepted: int
    duplicates: int
    quarantined: int
    late: int
    users: int
    """Users with new events, who have new lists where there is a publication."""
    seconds: float
    """From the batch's start until the store had it."""
    delay: float | None
    """Seconds from when its first row came until the store had it."""
    again: bool = False
    """Was it taken in already, by a run that was killed before Spark noted it."""

    def __str__(self) -> str:
        """The line of progress."""
        delay = "" if self.delay is None else f", {self.delay:.2f} s after they came"
        again = " (again)" if self.again else ""
        return (
            f"batch {self.number}{again}: {self.accepted} events of {self.users} users, {self.duplicates} duplicates, "
            f"{self.quarantined} quarantined ({self.late} late); {self.seconds:.2f} s{delay}"
        )


@dataclass(frozen=True)
class Rules:
    """What taking in depends on besides the batch."""

    lateness: float
    """Seconds, as of `sorting.Moment`."""
    ahead: float
    learner: Learner | None
    half_life_days: float
    """Of the trending counts, where the model does not say."""

    @classmethod
    def of(cls, config: Config) -> Rules:
        """As configured."""
        learning = config.online.learning
        learner = Learner(learning, frozenset(config.evaluation.target_events), config.seed)
        return cls(
            lateness=config.stream.lateness_hours * 3600.0,
            ahead=config.stream.ahead_seconds,
            learner=learner if learning.enabled else None,
            half_life_days=config.recommenders.trending.half_life_days,
        )


class Taker:
    """Takes micro-batches in; the one writer of a store and a batch log."""

    def __init__(
        self,
        store: OnlineStore,
        batches: BatchLog,
        load: Callable[[Publication], LiveModel],
        rules: Rules,
        make: Maker = make_here,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`load` gives the model of a publication, without anything learned; `clock` epoch seconds."""
        self._store, self._batches, self._load, self._rules, self._make = store, batches, load, rules, make
        self._clock = clock
        self._live: LiveModel | None = None
        self._newest = batches.newest()
        self._committed = max(store.batches(), default=0)
        self._expired_at = clock()
        batches.sweep()

    def recover(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Process what the log has and the store has not: of a killed run, or a store that was made anew; how many.

        Where it is told to `stop` it does so after a batch; the next run goes on.
        """
        count = 0
        for batch in self._batches.after(self._committed):
            if stop():
                break
            self._process(batch)
            count += 1
        return count

    def take(self, stream: str, batch_id: int, rows: Callable[[], pa.Table]) -> Taken:
        """Take in the batch that the stream knows as `batch_id`; `rows` gives its judged rows (`judging.JUDGED`)."""
        started = time.monotonic()
        batch = self._found(stream, batch_id)
        again = batch is not None
        if batch is None:
            batch = self._written(stream, batch_id, rows())
        users = self._process(batch)
        facts = batch.facts
        taken = Taken(
            number=batch.number,
            **{name: facts[name] for name in ("rows", "accepted", "duplicates", "quarantined", "late")},
            users=users,
            seconds=time.monotonic() - started,
            delay=None if facts["arrived"] is None else self._clock() - facts["arrived"],
            again=again,
        )
        self._expire()
        return taken

    def _found(self, stream: str, batch_id: int) -> Batch | None:
        """The batch, where the log has it: as its newest, unless streams took turns or a checkpoint is an old one."""
        newest = self._newest
        if newest is None or (newest.facts["stream"] == stream and newest.facts["batch"] < batch_id):
            return None
        for batch in self._batches.backwards():
            if batch.facts["stream"] == stream:
                if batch.facts["batch"] <= batch_id:
                    return batch if batch.facts["batch"] == batch_id else None
            elif batch_id == 0:  # a stream that begins: its events, were they here before, are duplicates
                return None
        return None

    def _written(self, stream: str, batch_id: int, rows: pa.Table) -> Batch:
        newest = None if self._newest is None else self._newest.facts["newest"]
        number = max(self._committed, self._newest.number if self._newest else 0) + 1
        moment = Moment(self._clock(), newest, self._rules.lateness, self._rules.ahead)
        known = self._store.committed(sorted(set(rows[EVENT_ID].to_pylist())))
        sorted_ = sort_rows(rows, number, moment, known)
        publication = self._store.publication()
        facts = {
            **sorted_.facts,
            "stream": stream,
            "batch": batch_id,
            "publication": publication.number if publication else 0,
            "model": publication.model if publication else None,
        }
        if not self._batches.add(number, {EVENTS: sorted_.events, QUARANTINE: sorted_.quarantine}, facts):
            raise RuntimeError(f"batch {number}: another process wrote it; only one may take events in")
        self._newest = self._batches.read(number)
        return self._newest

    def _process(self, batch: Batch) -> int:
        """Commit what the batch changes, if the store does not have it; users with new events."""
        if batch.number <= self._committed:
            return 0
        step = process_batch(
            self._store,
            self._current(),
            live_events(batch.table(EVENTS)),
            batch.number,
            self._rules.learner,
            half_life_days=self._rules.half_life_days,
            refused=batch.facts["refused"],
            make=self._make,
        )
        self._store.commit(step.commit)
        self._committed, self._live = batch.number, step.live
        return len(step.commit.users)

    def _current(self) -> LiveModel | None:
        """The model of the publication that serves, loaded anew where that is another one than for the last batch."""
        publication = self._store.publication()
        if publication is None:
            return None
        if self._live is None or self._live.publication != publication:
            self._live = live_of_store(self._store, publication, self._load)
            log.info("publication %d: model %s", publication.number, publication.model)
        return self._live

    def _expire(self) -> None:
        if self._clock() - self._expired_at >= EXPIRE_SECONDS:
            self._expired_at = self._clock()
            gone = self._store.expire(self._expired_at)
            log.info("%d users left the store: nothing was heard of them for too long", gone)
