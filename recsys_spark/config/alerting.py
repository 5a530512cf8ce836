"""The configuration of what becomes of an alert: who is told, and what is stopped."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.allowed import Variable
from recsys_spark.config.section import Section
from recsys_spark.monitoring.kinds import check_kinds

ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
Port = Annotated[int, Field(gt=0, lt=65536)]
Tries = Annotated[int, Field(gt=0, le=10)]
Seconds = Annotated[float, Field(gt=0, le=120)]


class Email(Section):
    """A mail server that takes messages (SMTP)."""

    host: str
    """The server."""
    port: Port = 587
    """Its port: 587 for starttls, 465 for tls, 25 for none, as a rule."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls`: encrypted before anything is told, or nothing is; `tls`: encrypted at once; `none`: in clear."""
    sender: str
    """The address that it comes from."""
    to: Annotated[tuple[str, ...], Field(min_length=1)]
    """The addresses that it goes to."""
    user_env: Variable | None = None
    """The environment variable that holds the user's name, where the server wants one."""
    password_env: Variable | None = None
    """The environment variable that holds the password, which stands nowhere else."""

    @field_validator("sender", "to")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if not ADDRESS.fullmatch(address):
                raise ValueError(f"{address!r} is not an address like shop@example.org")
        return value

    @model_validator(mode="after")
    def _safe(self) -> Email:
        if (self.user_env is None) != (self.password_env is None):
            raise ValueError("give user_env and password_env, or neither")
        if self.password_env and self.security == "none" and self.host not in LOOPBACK:
            raise ValueError(f"security none would send the password to {self.host} in clear; take starttls or tls")
        return self


class Notify(Section):
    """Who is told of alerts, besides the log: one message a day and run, none where all is well."""

    at_least: Literal["warn", "alert"] = "alert"
    """Findings of which status make a message go out; it then tells warnings too."""
    webhook_url_env: Variable | None = None
    """The environment variable that holds the URL to which the message is posted as JSON (its `text` is what chat
    programs show); the URL stands nowhere else."""
    email: Email | None = None
    """The mail server and the addresses."""
    timeout_seconds: Seconds = 10.0
    """How long a server may take to answer."""
    tries: Tries = 3
    """How often delivery is tried: after a time-out, a refused connection, or a server's fault, not after a refusal."""
    pause_seconds: Annotated[float, Field(ge=0, le=60)] = 2.0
    """The pause before the second try; it doubles from one to the next."""


class OnAlert(Section):
    """What an alert stops: kinds of findings, such as `events.price_level`, or `*` for all; by default nothing."""

    block_publication: tuple[str, ...] = ()
    """Alerts of these kinds hold up the lists: nothing is published and nobody promoted until somebody acknowledges
    the alert, or its day is monitored again and all is well. `lists` and `scores` hold up the lists after those that
    were measured; `outcomes`, `bias` and `lists.age_days` never hold anything up: new lists are what helps."""
    roll_back: tuple[str, ...] = ()
    """Alerts of these kinds bring back the champion before, and its lists, where the lists that were monitored are
    still the published ones."""

    @field_validator("block_publication", "roll_back")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        check_kinds(kinds, every=True)
        return kinds
