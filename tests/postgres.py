"""A PostgreSQL server of one's own for a test, from Debian's packages."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DRIVER_JAR = Path(os.environ.get("POSTGRESQL_JAR", "/usr/share/java/postgresql.jar"))
SERVER_USER = "postgres"
"""Who runs the server where the tests run as root, which PostgreSQL refuses."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    password: str
    programs: Path
    user: str = "shop"
    database: str = "postgres"

    @property
    def url(self) -> str:
        return f"jdbc:postgresql://127.0.0.1:{self.port}/{self.database}"

    def execute(self, sql: str) -> None:
        command = [self.programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)]
        environment = {**os.environ, "PGPASSWORD": self.password}
        subprocess.run([*command, "-U", self.user, "-d", self.database, "-c", sql], check=True, env=environment)


def programs() -> Path | None:
    """The folder with the newest server's programs."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    newest = max(found, key=lambda path: int(path.parent.name), default=None)
    return newest or (Path(on_path).parent if on_path else None)


def why_not() -> str | None:
    """Why no server can be started here, in one line, or None."""
    if programs() is None:
        return "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
    if not DRIVER_JAR.exists():
        return f"PostgreSQL's driver {DRIVER_JAR} is not installed (Debian: apt-get install libpostgresql-jdbc-java)"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser"
    return None


@contextmanager
def postgres_server() -> Iterator[Server]:
    """A server in a temporary directory on a free port of 127.0.0.1; it asks for a password."""
    where = programs()
    assert where is not None, "ask why_not() before"
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    as_server = ["runuser", "-u", SERVER_USER, "--"] if os.geteuid() == 0 else []
    password = secrets.token_hex(12)
    (folder / "password").write_text(password)
    if as_server:
        for path in (folder, folder / "password"):
            shutil.chown(path, SERVER_USER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, log = folder / "data", folder / "log"

    def run(*command: str | Path) -> None:
        done = subprocess.run([*as_server, *map(str, command)], cwd="/", capture_output=True, text=True, check=False)
        if done.returncode:
            told = log.read_text() if log.exists() else ""
            raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}{told}")

    try:
        how = ("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")
        run(where / "initdb", "-D", data, "-U", Server.user, "--pwfile", folder / "password", *how)
        settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run(where / "pg_ctl", "-D", data, "-l", log, "-w", "-o", settings, "start")
        try:
            yield Server(port, password, where)
        finally:
            run(where / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
