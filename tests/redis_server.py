"""A Redis server of one's own for a test, from Debian's package."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

PROGRAM = "redis-server"


@dataclass(frozen=True)
class Server:
    """A running server."""

    socket: Path
    password: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"


def why_not() -> str | None:
    """Why no server can be started here, in one line, or None."""
    return None if shutil.which(PROGRAM) else f"{PROGRAM} is not installed (Debian: apt-get install redis-server)"


@contextmanager
def running() -> Iterator[Server]:
    """A server behind a socket in a folder for temporary files, with a password, that keeps nothing on disk."""
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = folder / "socket"
    password = secrets.token_hex(8)
    arguments = ["--port", "0", "--unixsocket", str(server), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        [PROGRAM, *arguments, "--dir", str(folder), "--requirepass", password], stdout=subprocess.DEVNULL
    )
    try:
        client = redis.Redis(unix_socket_path=str(server), password=password)
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        else:
            raise RuntimeError(f"{PROGRAM} did not answer within ten seconds")
        client.close()
        yield Server(server, password, process)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
