"""The configuration of what is kept of users in real time."""

from __future__ import annotations

from pydantic import field_validator, model_validator

from recsys_spark.config.allowed import Variable, local_path
from recsys_spark.config.online_learning import OnlineLearning
from recsys_spark.config.section import Positive, PositiveFloat, Section
from recsys_spark.redaction import holds_secret

SCHEMES = ("sqlite:///", "redis://", "rediss://", "unix://")
"""What the address of an online store begins with."""


class Online(Section):
    """The online store, from which the stream and the service take lists, histories and vectors."""

    store: str | None = None
    """`sqlite:///PATH` (a local file, without a server; four slashes before an absolute path), `redis://HOST:PORT/DB`,
    `rediss://` (TLS) or `unix:///SOCKET`; by default the file `<workspace>/online/store.db`."""
    password_env: Variable | None = None
    """Redis: the environment variable that holds the password, which stands nowhere else."""
    publish: bool = False
    """Load the published lists and histories into the store at the end of fuse_recommendations."""
    ttl_days: PositiveFloat = 30.0
    """Days after the user's last event and the last publication at which the store forgets the user."""
    max_history: Positive = 10_000
    """Events of a user's history that are read from the store, the newest: lists of users with longer ones may differ
    from the batch's."""

    learning: OnlineLearning = OnlineLearning()
    """What live events teach."""

    @field_validator("store")
    @classmethod
    def _an_address(cls, store: str | None) -> str | None:
        if store is None:
            return store
        if store.startswith("sqlite:///"):
            if store != "sqlite:///":
                local_path(store.removeprefix("sqlite:///"))
            return store
        if holds_secret(store):  # and never repeat it
            raise ValueError("holds a password; put it into an environment variable and name that password_env")
        if not store.startswith(SCHEMES):
            raise ValueError(f"must begin with one of {', '.join(SCHEMES)}")
        return store

    @model_validator(mode="after")
    def _password_of_redis(self) -> Online:
        if self.password_env is not None and (self.store is None or self.store.startswith("sqlite:")):
            raise ValueError("password_env is for a store on Redis; SQLite has no password")
        return self
