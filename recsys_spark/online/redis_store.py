"""The online store on Redis: for services and streams on several hosts.

What survives a crash of the server is up to its persistence (`appendonly yes`).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from recsys_spark.errors import UserError
from recsys_spark.online import redis_scripts
from recsys_spark.online.encoding import (
    chunks,
    packed_list,
    packed_publication,
    packed_user,
    packed_vectors,
    portions,
    state_of,
    unpacked_publication,
)
from recsys_spark.online.events import LiveEvent
from recsys_spark.online.store import (
    KEPT_BATCHES,
    BatchCommit,
    OnlineStore,
    Publication,
    StoredEvent,
    StoreError,
    UserState,
)

AT_ONCE = 500
"""Users or events of one script, where it need not be one: while it runs, nobody else is served."""
TEXTS_AT_ONCE = 3000
"""Texts of one argument: a server takes a million arguments at most, and a micro-batch may have more texts."""
PREFIX = "recsys:online:"
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 20.0
DAY = 86400.0


class RedisStore(OnlineStore):
    """Atomic steps are scripts (`redis_scripts`); connections are pooled, one to a thread at work.

    State: the keys that `redis_scripts` lists.
    """

    def __init__(
        self,
        url: str,
        ttl_days: float = 30.0,
        max_history: int = 10_000,
        password: str | None = None,
        clock: Callable[[], float] = time.time,
        prefix: str = PREFIX,
    ) -> None:
        """Connect to `url`; a `password` is better given apart. `clock` gives epoch seconds.

        Raises UserError where the address is wrong, StoreError where the server does not answer.
        """
        self.ttl_days = ttl_days
        self.max_history = max_history
        self._clock = clock
        self._prefix = prefix
        given = {} if password is None else {"password": password}
        try:
            # Any: its methods are typed for synchronous and asynchronous clients at once.
            self._client: Any = redis.Redis.from_url(
                url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS, **given
            )
        except ValueError:  # its text would repeat parts of the address
            raise UserError("online.store: not an address of Redis; write it as redis://HOST:PORT/DB") from None
        self._scripts = {
            name: self._client.register_script(text)
            for name, text in vars(redis_scripts).items()
            if name.isupper() and not name.startswith("_") and isinstance(text, str)
        }
        self.ping()

    def publication(self) -> Publication | None:
        """The publication that serves."""
        with _errors():
            content = self._client.hget(self._key("serving"), "content")
        return None if content is None else unpacked_publication(content)

    def publish(self, publication: Publication, users: Iterable[UserState]) -> None:
        """Load rows under the new number, a bounded script at a time; then one that names the new number."""
        number, loader = publication.number, uuid.uuid4().hex
        serving = self._run("BEGIN", number, loader)
        if serving + 1 != number:
            raise StoreError(f"online store: publication {number} does not follow {serving}; publish again")
        self._sweep(serving)
        for rows in portions(packed_user(user, publication, self.max_history) for user in users):
            columns = [part if part is not None else b"" for row in rows for part in row.columns]
            self._check(self._run("LOAD", number, loader, *columns), number)
        content = packed_publication(publication)
        self._check(self._run("SWITCH", number, loader, content, publication.model), number)
        self._sweep(number)

    def users(self, ids: Sequence[str]) -> dict[str, UserState]:
        """The known users' states; where a publication came between two portions, all are read again."""
        while True:
            found: dict[str, UserState] = {}
            served: set[bytes | None] = set()
            for some in chunks(list(dict.fromkeys(ids)), AT_ONCE):
                content, *rows = self._run("USERS", *some)
                served.add(content)
                publication = None if content is None else unpacked_publication(content)
                for user, ((index, *packed), live) in zip(some, rows, strict=True):
                    if index is not None or any(part is not None for part in packed) or live:
                        row = (int(index or 0), packed[0], packed[1], packed[2])
                        events = [(event[0], event[1], event[2], float(event[3])) for event in map(json.loads, live)]
                        found[user] = state_of(user, row, events, publication, self.max_history)
            if len(served) <= 1:
                return found

    def commit(self, batch: BatchCommit) -> bool:
        """One script with the batch's id."""
        updates = batch.checked_users()
        events = [
            part
            for update in updates
            for event in update.events
            for part in (event.event_id, update.user_id, _packed_event(event))
        ]
        lists: list[str | bytes] = []
        for update in updates:
            if update.list is not None or update.vectors:
                stored = packed_list(update.list) if update.list is not None else b""
                lists += [update.user_id, stored, packed_vectors(update.vectors) if update.vectors else b""]
        counts = [part for item, count in batch.counts.items() for part in (item, json.dumps(count))]
        parameters = [] if batch.parameters is None else [batch.parameters]
        told: list[Any] = []
        for texts in (events, batch.accepted, lists, counts, parameters):
            arguments = _joined(texts)
            told += [len(arguments), *arguments]
        head = (batch.stream, batch.batch_id, KEPT_BATCHES, batch.publication, repr(self._clock()))
        return bool(self._run("COMMIT", *head, *told))

    def committed(self, event_ids: Sequence[str]) -> set[str]:
        """Those that are in the ledger and not pending."""
        found: set[str] = set()
        for some in chunks(list(event_ids), AT_ONCE):
            with _errors():
                entries = self._client.hmget(self._key("ledger"), list(some))
            found.update(one for one, entry in zip(some, entries, strict=True) if entry and entry[:1] != b"0")
        return found

    def accept(self, events: Sequence[LiveEvent]) -> list[bool]:
        """One script; a known id is ignored."""
        if not events:
            return []
        told = [
            part
            for event in events
            for part in (event.event_id, event.user_id, _packed_event(StoredEvent.of(event, {})))
        ]
        return [bool(new) for new in self._run("ACCEPT", repr(self._clock()), *_joined(told))]

    def counts(self) -> dict[str, tuple[float, float]]:
        """All counts of the model that serves."""
        with _errors():
            found = self._client.hgetall(self._key("counts"))
        values = {item.decode(): json.loads(count) for item, count in found.items()}
        return {item: (float(value), float(at)) for item, (value, at) in values.items()}

    def parameters(self) -> tuple[int, bytes | None]:
        """Version and content; 0 where a publication of another model took the content away."""
        with _errors():
            version, content = self._client.hmget(self._key("parameters"), ["version", "content"])
        return (0, None) if content is None else (int(version), content)

    def batches(self, stream: str = "") -> tuple[int, ...]:
        """Committed ids, ascending."""
        with _errors():
            return tuple(int(number) for number in self._client.zrange(self._key(f"batches:{stream}"), 0, -1))

    def expire(self, now: float) -> int:
        """Drop what is over, a bounded script at a time."""
        cut = now - self.ttl_days * DAY
        publication = self.publication()
        number = publication.number if publication is not None else 0
        fresh = publication is None or publication.made_at >= cut
        gone = 0
        for some in self._candidates(number, cut, fresh):
            dropped = self._run("FORGET", number, repr(cut), int(fresh), *some)
            if dropped < 0:  # published meanwhile: others are to go now
                return gone + self.expire(now)
            gone += dropped
        as_of = publication.as_of if publication is not None else 0.0
        kept = 0
        with _errors():
            while some := self._client.zrange(
                self._key("arrivals"), "-inf", f"({cut!r}", byscore=True, offset=kept, num=AT_ONCE
            ):
                kept += len(some) - self._run("FORGET_EVENTS", repr(as_of), *some)
        return gone

    def ping(self) -> None:
        """Asks the server."""
        with _errors():
            self._client.ping()

    def close(self) -> None:
        """Close the pool."""
        self._client.close()

    def _candidates(self, number: int, cut: float, fresh: bool) -> Iterator[list[bytes]]:
        """Users who may be over: those not seen since `cut`, and where the publication is old those of it.

        Whoever takes them may drop them meanwhile: what is left is counted.
        """
        seen, kept = self._key("seen"), 0
        while True:
            with _errors():
                some = self._client.zrange(seen, "-inf", f"({cut!r}", byscore=True, offset=kept, num=AT_ONCE)
            if not some:
                break
            yield some
            with _errors():
                kept += sum(score is not None for score in self._client.zmscore(seen, some))
        cursor, at_end = 0, fresh
        while not at_end:
            with _errors():
                cursor, some = self._client.sscan(self._key(f"members:{number}"), cursor, count=AT_ONCE)
            yield some
            at_end = cursor == 0

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _run(self, script: str, *arguments: Any) -> Any:
        with _errors():
            return self._scripts[script](args=[self._prefix, *arguments])

    def _sweep(self, keep: int) -> None:
        while self._run("SWEEP", keep, AT_ONCE):
            pass

    @staticmethod
    def _check(done: int, number: int) -> None:
        if not done:
            raise StoreError(f"online store: another publication came while {number} was loaded; publish again")


@contextmanager
def _errors() -> Iterator[None]:
    """Errors of Redis as StoreErrors, without the address."""
    try:
        yield
    except redis.RedisError as error:
        raise StoreError(f"online store on Redis: {type(error).__name__}: {error}") from None


def _packed_event(event: StoredEvent) -> str:
    return json.dumps([event.event_id, event.item_id, event.event_type, event.event_time], separators=(",", ":"))


def _joined(texts: Sequence[str | bytes]) -> list[bytes]:
    """Many texts as few arguments: each behind its length, as `redis_scripts` reads them."""
    told = (text.encode() if isinstance(text, str) else text for text in texts)
    parts = [len(text).to_bytes(4, "little") + text for text in told]
    return [b"".join(some) for some in chunks(parts, TEXTS_AT_ONCE)]
