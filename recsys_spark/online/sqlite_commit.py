"""What a micro-batch of the stream writes into a SQLite file, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from recsys_spark.online.encoding import packed_list, packed_vectors, unpacked_publication
from recsys_spark.online.sqlite_schema import COMMITTED, PENDING, REFUSED
from recsys_spark.online.store import KEPT_BATCHES, BatchCommit, Publication, UserUpdate

ListColumns = tuple[str, bytes | None, bytes | None]
"""A user's id, and the list and the vectors, packed; None for what is not there."""
SEE = "INSERT INTO seen VALUES (?, ?) ON CONFLICT (user_id) DO UPDATE SET arrived = max(arrived, excluded.arrived)"
_PUT_EVENT = (
    "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO UPDATE SET user_id = excluded.user_id, "
    "item_id = excluded.item_id, event_type = excluded.event_type, event_time = excluded.event_time, "
    "state = excluded.state WHERE state = 0"
)
"""What was pending becomes what the stream's cleaning made of it."""
_PUT_LIST = (
    "INSERT INTO users (number, user_id, user_index, list, vectors) VALUES (?, ?, 0, ?, ?) "
    "ON CONFLICT (number, user_id) DO UPDATE SET list = excluded.list, vectors = excluded.vectors"
)
_PUT_VECTORS = (
    "INSERT INTO users (number, user_id, user_index, vectors) VALUES (?, ?, 0, ?) "
    "ON CONFLICT (number, user_id) DO UPDATE SET vectors = excluded.vectors"
)


def write_commit(connection: sqlite3.Connection, batch: BatchCommit, lists: Sequence[ListColumns], now: float) -> bool:
    """Within a transaction: all of the batch, or False and nothing where its id is committed.

    `lists` are those of its users (`list_row`), `now` is when it came.
    """
    if _has_batch(connection, batch.stream, batch.batch_id):
        return False
    serving = serving_in(connection)
    _commit_events(connection, batch, now)
    if serving is not None and batch.publication == serving.number:
        connection.executemany(_PUT_LIST, [(serving.number, *row) for row in lists if row[1] is not None])
        vectors = [(serving.number, row[0], row[2]) for row in lists if row[1] is None and row[2]]
        connection.executemany(_PUT_VECTORS, vectors)
    if serving is not None and _model_of(connection, batch.publication) == serving.model:
        counts = [(item, value, at) for item, (value, at) in batch.counts.items()]
        connection.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?, ?)", counts)
        if batch.parameters is not None:
            connection.execute("UPDATE parameters SET version = version + 1, content = ?", (batch.parameters,))
    connection.execute("INSERT INTO batches VALUES (?, ?)", (batch.stream, batch.batch_id))
    old = (batch.stream, batch.batch_id - KEPT_BATCHES)
    connection.execute("DELETE FROM batches WHERE stream = ? AND batch_id <= ?", old)
    return True


def list_row(update: UserUpdate) -> ListColumns:
    """What is written of a user's list."""
    stored = packed_list(update.list) if update.list is not None else None
    return update.user_id, stored, packed_vectors(update.vectors) if update.vectors else None


def serving_in(connection: sqlite3.Connection) -> Publication | None:
    """The publication that serves."""
    row = connection.execute("SELECT content FROM publications JOIN serving USING (number)").fetchone()
    return None if row is None else unpacked_publication(row[0])


def _model_of(connection: sqlite3.Connection, number: int) -> str | None:
    row = connection.execute("SELECT content FROM publications WHERE number = ?", (number,)).fetchone()
    return None if row is None else unpacked_publication(row[0]).model


def _has_batch(connection: sqlite3.Connection, stream: str, batch_id: int) -> bool:
    (newest,) = connection.execute("SELECT max(batch_id) FROM batches WHERE stream = ?", (stream,)).fetchone()
    if newest is not None and batch_id <= newest - KEPT_BATCHES:
        return True
    query = "SELECT 1 FROM batches WHERE stream = ? AND batch_id = ?"
    return connection.execute(query, (stream, batch_id)).fetchone() is not None


def _commit_events(connection: sqlite3.Connection, batch: BatchCommit, now: float) -> None:
    rows = [
        (event.event_id, update.user_id, event.item_id, event.event_type, event.event_time, now, COMMITTED)
        for update in batch.users
        for event in update.events
    ]
    connection.executemany(_PUT_EVENT, rows)
    connection.executemany(SEE, [(update.user_id, now) for update in batch.users if update.events])
    refused = [(REFUSED, event_id, PENDING) for event_id in batch.accepted]
    connection.executemany("UPDATE events SET state = ? WHERE event_id = ? AND state = ?", refused)
