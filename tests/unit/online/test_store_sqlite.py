"""The online store in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys_spark.online.sqlite_store import SqliteStore
from recsys_spark.online.store import StoreError
from tests.unit.online.states import a_user, publication
from tests.unit.online.store_contract import Opener, StoreContract


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "online" / "store.db"


@pytest.fixture
def opened(file: Path) -> Iterator[Opener]:
    stores: list[SqliteStore] = []

    def open_one(**settings: object) -> SqliteStore:
        stores.append(SqliteStore(file, **settings))  # type: ignore[arg-type]
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


class TestSqlite(StoreContract):
    """One file."""


def rows_of(file: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(file) as connection:
        return connection.execute(query).fetchall()


def test_what_a_killed_publication_left_goes_at_the_next_one(file: Path, opened: Opener) -> None:
    store = opened()
    store.publish(publication(1), [a_user(f"u{n}") for n in range(1201)])
    with pytest.raises(StoreError):
        store.publish(publication(2), leaves_off(file, opened))
    assert rows_of(file, "SELECT DISTINCT number FROM users") == [(2,)]


def leaves_off(file: Path, opened: Opener):  # type: ignore[no-untyped-def]
    """Half a publication, during which another comes; what lies in the file meanwhile is counted."""
    for n in range(600):
        yield a_user(f"v{n}", number=2)
    assert rows_of(file, "SELECT number, count(*) FROM users GROUP BY number") == [(1, 1201), (2, 500)]
    opened().publish(publication(2), [a_user("w", number=2)])
    for n in range(600):
        yield a_user(f"x{n}", number=2)


def test_a_file_of_another_format_is_refused(file: Path, opened: Opener) -> None:
    opened().close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="has format 99"):
        opened()


def test_a_file_of_somebody_else_is_refused(file: Path, opened: Opener) -> None:
    file.parent.mkdir()
    file.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match="not a database"):
        opened()
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE theirs (n INTEGER)")
    with pytest.raises(StoreError, match="has format 0"):
        opened()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/store\.db: "):
        SqliteStore(tmp_path / "file" / "store.db")
    with pytest.raises(StoreError, match=r"below/store\.db: "):
        SqliteStore(tmp_path / "file" / "below" / "store.db")
