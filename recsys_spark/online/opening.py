"""From an address to the online store behind it."""

from __future__ import annotations

import re
from pathlib import Path

from recsys_spark.config import Config
from recsys_spark.config.online import SCHEMES
from recsys_spark.config.streaming import Stream
from recsys_spark.credentials import secret_of
from recsys_spark.errors import UserError
from recsys_spark.online.store import OnlineStore

SQLITE = SCHEMES[0]


def open_store(url: str, ttl_days: float = 30.0, max_history: int = 10_000, password: str | None = None) -> OnlineStore:
    """The store at `sqlite:///PATH`, `redis://HOST:PORT/DB`, `rediss://...` or `unix:///SOCKET`.

    Raises UserError for another address, and StoreError where nothing answers; neither tells a password.
    """
    if url.startswith(SQLITE):
        from recsys_spark.online.sqlite_store import SqliteStore

        path = url.removeprefix(SQLITE)
        if not path:
            raise UserError("online.store: sqlite:/// names no file")
        return SqliteStore(Path(path).expanduser(), ttl_days, max_history)
    if not url.startswith(SCHEMES):
        raise UserError(f"online.store: {shown_url(url)} must begin with one of {', '.join(SCHEMES)}")
    try:
        from recsys_spark.online.redis_store import RedisStore
    except ModuleNotFoundError as error:
        package = error.name
        raise UserError(f"online.store: Redis needs the package {package}; pip install recsys-spark[redis]") from None
    return RedisStore(url, ttl_days, max_history, password)


def online_folder(config: Config) -> Path:
    """The folder below the workspace in which the store's file and the models that serve lie."""
    root = config.workspace.removeprefix("file://").removeprefix("file:")
    return Path(root).expanduser().absolute() / "online"


def events_folder(stream: Stream, online: Path) -> Path:
    """The folder of a stream of JSON files, which the service writes and the stream reads; `online`: as above."""
    return Path(stream.path).expanduser().absolute() if stream.path else online / "events"


def store_url(config: Config) -> str:
    """The configured address, or that of the default file below the workspace."""
    return config.online.store or f"{SQLITE}{online_folder(config) / 'store.db'}"


def open_configured(config: Config) -> OnlineStore:
    """The configured store.

    Raises UserError where the password's variable is not set or the address is wrong, StoreError where none answers.
    """
    online = config.online
    variable = online.password_env
    password = None if variable is None else secret_of(variable, "online.password_env")
    return open_store(store_url(config), online.ttl_days, online.max_history, password)


def shown_url(url: str) -> str:
    """The address as it may be read by everybody: without users, passwords and options."""
    return re.sub(r"//[^/]*@", "//***@", url.partition("?")[0])
