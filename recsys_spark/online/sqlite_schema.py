"""The tables of an online store in one SQLite file, and its connections."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue

from recsys_spark.online.encoding import FORMAT
from recsys_spark.online.store import StoreError

BUSY_SECONDS = 20.0
"""How long a statement waits for another writer's transaction; each of those is bounded."""
PENDING, COMMITTED, REFUSED = 0, 1, 2
"""States of a live event; a refused one is kept for its id alone."""
TABLES = """
CREATE TABLE serving (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), number INTEGER NOT NULL, loader TEXT);
INSERT INTO serving VALUES (1, 0, NULL);
CREATE TABLE publications (number INTEGER PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE users (
    number INTEGER NOT NULL, user_id TEXT NOT NULL, user_index INTEGER NOT NULL,
    history BLOB, list BLOB, vectors BLOB);
CREATE UNIQUE INDEX users_by_id ON users (number, user_id);
CREATE TABLE events (
    event_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, item_id TEXT NOT NULL, event_type TEXT NOT NULL,
    event_time REAL NOT NULL, arrived REAL NOT NULL, state INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX events_by_user ON events (user_id);
CREATE INDEX events_by_time ON events (arrived);
CREATE TABLE seen (user_id TEXT PRIMARY KEY, arrived REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX seen_by_time ON seen (arrived);
CREATE TABLE counts (item_id TEXT PRIMARY KEY, value REAL NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE parameters (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), version INTEGER NOT NULL, content BLOB);
INSERT INTO parameters VALUES (1, 0, NULL);
CREATE TABLE batches (stream TEXT NOT NULL, batch_id INTEGER NOT NULL, PRIMARY KEY (stream, batch_id)) WITHOUT ROWID;
"""


class Connections:
    """Connections to one file, lent to one thread at a time; as many as were ever in use at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        with self.lent() as connection:
            _prepare(connection, path)

    @contextmanager
    def lent(self) -> Iterator[sqlite3.Connection]:
        """A connection outside of any transaction. Errors of SQLite become StoreErrors."""
        try:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                connection = self._opened()
            try:
                yield connection
            except BaseException:
                connection.close()  # whatever it was in the middle of is rolled back
                raise
            self._idle.put(connection)
        except sqlite3.Error as error:
            raise StoreError(f"online store {self._path}: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot for all statements within."""
        with self.lent() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is written, or nothing. Waits for other writers."""
        with self.lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close those that nobody uses."""
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    def _opened(self) -> sqlite3.Connection:
        # Transactions are begun and ended by hand; a connection changes hands between threads, one at a time.
        connection = sqlite3.connect(self._path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")  # an event that was accepted survives a failing power supply
        return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables of a new file; whoever comes second waits, and finds them."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
        for statement in TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    elif version != FORMAT:
        raise StoreError(
            f"online store {path}: has format {version}, this version reads {FORMAT}; remove the file and publish anew"
        )
    connection.execute("COMMIT")
