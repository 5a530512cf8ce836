"""Canaries: secrets that are looked for in everything that a run leaves."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sqlite3
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq


def canary(name: str) -> str:
    """A secret that stands nowhere else, with characters that URLs, JSON and shells write otherwise."""
    return f'{name}"k@n/a:r%{secrets.token_hex(8)}'


def spellings(canary: str) -> list[bytes]:
    """How it may be written, and its core, which stays whatever is escaped."""
    plain = [canary, quote(canary, safe=""), json.dumps(canary)[1:-1], base64.b64encode(canary.encode()).decode()]
    return [text.encode() for text in (*plain, canary[-16:])]


def in_bytes(content: bytes, canaries: Mapping[str, str]) -> set[str]:
    """Names of the canaries that sing in it."""
    return {name for name, value in canaries.items() if any(text in content for text in spellings(value))}


def in_folder(folder: Path, canaries: Mapping[str, str]) -> list[tuple[str, str]]:
    """File and canary, for every file below `folder`: as it is, Parquet and databases decoded, archives opened."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [(str(path), name) for path in files for part in _parts(path) for name in in_bytes(part, canaries)]


def _parts(path: Path) -> Iterator[bytes]:
    yield path.name.encode()
    content = path.read_bytes()
    yield content
    if content[:4] == b"PAR1":
        yield json.dumps(pq.read_table(path, partitioning=None).to_pylist(), default=str, ensure_ascii=False).encode()
    elif content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif content.startswith(b"SQLite format 3"):
        yield from _cells(path)


def _cells(path: Path) -> Iterator[bytes]:
    with sqlite3.connect(path) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for cell in row:
                    plain = cell if isinstance(cell, bytes) else str(cell).encode()
                    yield plain
                    try:
                        yield zlib.decompress(plain)
                    except zlib.error:
                        continue


@contextmanager
def argument_lists(pause_seconds: float = 0.05) -> Iterator[set[bytes]]:
    """The argument lists of all processes that this one starts, as anybody on the machine can read them."""
    seen: set[bytes] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(pause_seconds):
            seen.update(_command_lines(os.getpid()))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        time.sleep(2 * pause_seconds)
        done.set()
        watcher.join()


def _command_lines(root: int) -> Iterator[bytes]:
    parents: dict[int, int] = {}
    lines: dict[int, bytes] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                parents[int(entry.name)] = int(status[1])
                lines[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
    for process in lines:
        above = process
        while above in parents and above != root:
            above = parents[above]
        if above == root and process != root:
            yield lines[process]
