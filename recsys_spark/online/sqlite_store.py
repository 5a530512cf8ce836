"""The online store in one SQLite file, without a server: for one host, whose processes share a local disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from recsys_spark.online.encoding import (
    chunks,
    packed_publication,
    packed_user,
    state_of,
)
from recsys_spark.online.events import LiveEvent
from recsys_spark.online.sqlite_commit import SEE, list_row, serving_in, write_commit
from recsys_spark.online.sqlite_loading import load, sweep, switch
from recsys_spark.online.sqlite_schema import COMMITTED, PENDING, REFUSED, Connections
from recsys_spark.online.store import (
    BatchCommit,
    OnlineStore,
    Publication,
    StoreError,
    UserState,
)

IDS_AT_ONCE = 500
"""Ids in one statement, and users or events that one transaction of `expire` drops."""
DAY = 86400.0


class SqliteStore(OnlineStore):
    """Write-ahead logging: readers never wait, and see the newest finished transaction. One writes at a time.

    The file must lie on a local disk. State: the tables of `sqlite_schema`; of the users' rows those of the number that
    `serving` names count alone, others are being loaded or left over.
    """

    def __init__(
        self,
        path: Path,
        ttl_days: float = 30.0,
        max_history: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the file `path`, or make it. `clock` gives epoch seconds.

        Raises StoreError where the folder cannot be made, or the file is no store of this format.
        """
        self.ttl_days = ttl_days
        self.max_history = max_history
        self._clock = clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"online store {path}: {error.strerror}") from None
        self._connections = Connections(path)

    def publication(self) -> Publication | None:
        """The publication that serves."""
        with self._connections.reading() as connection:
            return serving_in(connection)

    def publish(self, publication: Publication, users: Iterable[UserState]) -> None:
        """Load rows under the new number, a bounded transaction at a time; then one that names the new number."""
        rows = (packed_user(user, publication, self.max_history) for user in users)
        loader = load(self._connections, publication.number, rows)
        switch(self._connections, publication.number, packed_publication(publication), loader)
        sweep(self._connections, publication.number)

    def users(self, ids: Sequence[str]) -> dict[str, UserState]:
        """The known users' states, from one snapshot."""
        found: dict[str, UserState] = {}
        with self._connections.reading() as connection:
            publication = serving_in(connection)
            for some in chunks(list(dict.fromkeys(ids)), IDS_AT_ONCE):
                marks = ",".join("?" * len(some))
                stored = connection.execute(
                    "SELECT user_id, user_index, history, list, vectors FROM users "
                    f"WHERE number = ? AND user_id IN ({marks})",
                    (publication.number if publication else 0, *some),
                ).fetchall()
                events = connection.execute(
                    "SELECT user_id, event_id, item_id, event_type, event_time FROM events "
                    f"WHERE user_id IN ({marks}) AND state <> ?",
                    (*some, REFUSED),
                ).fetchall()
                live: dict[str, list[tuple[str, str, str, float]]] = {}
                for user, *event in events:
                    live.setdefault(user, []).append((event[0], event[1], event[2], event[3]))
                rows = {user: tuple(columns) for user, *columns in stored}
                for user in some:
                    if user in rows or user in live:
                        row = rows.get(user, (0, None, None, None))
                        found[user] = state_of(user, row, live.get(user, ()), publication, self.max_history)
        return found

    def commit(self, batch: BatchCommit) -> bool:
        """One transaction with the batch's id."""
        lists = [list_row(update) for update in batch.checked_users()]
        now = self._clock()
        with self._connections.writing() as connection:
            return write_commit(connection, batch, lists, now)

    def committed(self, event_ids: Sequence[str]) -> set[str]:
        """Those that are there and not pending."""
        found: set[str] = set()
        with self._connections.reading() as connection:
            for some in chunks(list(event_ids), IDS_AT_ONCE):
                query = f"SELECT event_id FROM events WHERE event_id IN ({','.join('?' * len(some))}) AND state <> ?"
                found.update(event_id for (event_id,) in connection.execute(query, (*some, PENDING)))
        return found

    def accept(self, events: Sequence[LiveEvent]) -> list[bool]:
        """One transaction; a known id is ignored."""
        now = self._clock()
        new: list[bool] = []
        with self._connections.writing() as connection:
            for event in events:
                row = (event.event_id, event.user_id, event.item_id, event.event_type, event.event_time, now, PENDING)
                done = connection.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                new.append(done.rowcount == 1)
            users = {event.user_id for event, is_new in zip(events, new, strict=True) if is_new}
            connection.executemany(SEE, [(user, now) for user in sorted(users)])
        return new

    def counts(self) -> dict[str, tuple[float, float]]:
        """All counts of the model that serves."""
        with self._connections.reading() as connection:
            rows = connection.execute("SELECT item_id, value, at FROM counts").fetchall()
        return {item: (value, at) for item, value, at in rows}

    def parameters(self) -> tuple[int, bytes | None]:
        """Version and content; 0 where a publication of another model took the content away."""
        with self._connections.reading() as connection:
            version, content = connection.execute("SELECT version, content FROM parameters").fetchone()
        return (0, None) if content is None else (version, content)

    def batches(self, stream: str = "") -> tuple[int, ...]:
        """Committed ids, ascending."""
        query = "SELECT batch_id FROM batches WHERE stream = ? ORDER BY batch_id"
        with self._connections.reading() as connection:
            return tuple(number for (number,) in connection.execute(query, (stream,)))

    def expire(self, now: float) -> int:
        """Drop what is over, a bounded transaction at a time."""
        cut = now - self.ttl_days * DAY
        gone = 0
        while (expired := self._expired(cut))[1]:
            number, users = expired
            with self._connections.writing() as connection:
                if connection.execute("SELECT number FROM serving").fetchone() != (number,):
                    continue  # published meanwhile: others are to go now
                for user in users:
                    back = connection.execute("SELECT 1 FROM seen WHERE user_id = ? AND arrived >= ?", (user, cut))
                    if back.fetchone() is None:
                        connection.execute("DELETE FROM users WHERE number = ? AND user_id = ?", (number, user))
                        connection.execute("DELETE FROM events WHERE user_id = ?", (user,))
                        connection.execute("DELETE FROM seen WHERE user_id = ?", (user,))
                        gone += 1
        self._expire_events(cut)
        return gone

    def ping(self) -> None:
        """Reads the number that serves."""
        self.publication()

    def close(self) -> None:
        """Close the file."""
        self._connections.close()

    def _expired(self, cut: float) -> tuple[int, list[str]]:
        """The number that serves, and some of the users whose time is over under it."""
        with self._connections.reading() as connection:
            serving = serving_in(connection)
            if serving is None or serving.made_at >= cut:
                query = (
                    "SELECT user_id FROM seen WHERE arrived < ? AND NOT EXISTS (SELECT 1 FROM users "
                    "WHERE users.number = ? AND users.user_id = seen.user_id AND history IS NOT NULL) LIMIT ?"
                )
            else:
                query = (
                    "SELECT user_id FROM (SELECT user_id FROM seen WHERE arrived < ?1 UNION ALL "
                    "SELECT user_id FROM users WHERE number = ?2 AND NOT EXISTS "
                    "(SELECT 1 FROM seen WHERE seen.user_id = users.user_id)) LIMIT ?3"
                )
            number = serving.number if serving else 0
            return number, [user for (user,) in connection.execute(query, (cut, number, IDS_AT_ONCE))]

    def _expire_events(self, cut: float) -> None:
        dropped = IDS_AT_ONCE
        while dropped == IDS_AT_ONCE:
            with self._connections.writing() as connection:
                serving = serving_in(connection)
                dropped = connection.execute(
                    "DELETE FROM events WHERE event_id IN (SELECT event_id FROM events WHERE arrived < ? "
                    "AND (state = ? OR state = ? AND event_time < ?) LIMIT ?)",
                    (cut, REFUSED, COMMITTED, serving.as_of if serving else 0.0, IDS_AT_ONCE),
                ).rowcount
