"""Loading a publication into a SQLite file beside the one that serves."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable

from recsys_spark.online.encoding import PackedUser, portions, unpacked_publication
from recsys_spark.online.sqlite_schema import Connections
from recsys_spark.online.store import StoreError

ROWS_AT_ONCE = 500
"""Rows that one transaction sweeps away."""
_PUT_USER = (
    "INSERT INTO users (number, user_id, user_index, history, list, vectors) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (number, user_id) DO UPDATE SET user_index = max(user_index, excluded.user_index), "
    "history = coalesce(excluded.history, history), list = coalesce(excluded.list, list), "
    "vectors = coalesce(excluded.vectors, vectors)"
)
"""A user comes in parts."""


def load(connections: Connections, number: int, rows: Iterable[PackedUser]) -> str:
    """Write the rows under `number`, which nobody reads yet; returns the loader's name, which `switch` asks for.

    Whoever begins to load takes the right to it from a loader before, killed or not, and sweeps what that one left.
    Raises StoreError where the number is not the next one, or another loader came.
    """
    loader = uuid.uuid4().hex
    with connections.writing() as connection:
        (serving,) = connection.execute("SELECT number FROM serving").fetchone()
        if number != serving + 1:
            raise StoreError(f"online store: publication {number} does not follow {serving}; publish again")
        connection.execute("UPDATE serving SET loader = ?", (loader,))
    sweep(connections, number - 1)
    for some in portions(rows):
        _write(connections, number, loader, some)
    return loader


def switch(connections: Connections, number: int, publication: str, loader: str) -> None:
    """Let the loaded number serve, in one transaction; what was learned on another model goes with it."""
    with connections.writing() as connection:
        _check(connection, number, loader)
        before = connection.execute("SELECT content FROM publications JOIN serving USING (number)").fetchone()
        connection.execute("INSERT INTO publications VALUES (?, ?)", (number, publication))
        connection.execute("UPDATE serving SET number = ?, loader = NULL", (number,))
        model = unpacked_publication(publication).model
        if before is not None and unpacked_publication(before[0]).model != model:
            connection.execute("DELETE FROM counts")
            connection.execute("UPDATE parameters SET content = NULL")


def sweep(connections: Connections, keep: int) -> None:
    """Remove the rows of all numbers but `keep`, while that one serves."""
    for side in ("<", ">"):
        swept = ROWS_AT_ONCE
        while swept == ROWS_AT_ONCE:
            with connections.writing() as connection:
                (serving,) = connection.execute("SELECT number FROM serving").fetchone()
                if serving != keep:
                    return
                swept = connection.execute(
                    f"DELETE FROM users WHERE rowid IN (SELECT rowid FROM users WHERE number {side} ? LIMIT ?)",
                    (keep, ROWS_AT_ONCE),
                ).rowcount


def _write(connections: Connections, number: int, loader: str, rows: list[PackedUser]) -> None:
    with connections.writing() as connection:
        _check(connection, number, loader)
        connection.executemany(_PUT_USER, [(number, *row.columns) for row in rows])


def _check(connection: sqlite3.Connection, number: int, loader: str) -> None:
    """Raises StoreError where this loader may not go on."""
    (serving, current) = connection.execute("SELECT number, loader FROM serving").fetchone()
    if (serving, current) != (number - 1, loader):
        raise StoreError(f"online store: another publication came while {number} was loaded; publish again")
