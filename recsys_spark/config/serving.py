"""Section `serving`: the HTTP service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recsys_spark.config.allowed import Variable
from recsys_spark.config.section import NotNegative, Positive, PositiveFloat, Section


class ServingCache(Section):
    """What the service keeps of its answers."""

    size: Positive = 10_000
    """Lists kept; those used least lately go first. As many lists of similar items are kept beside them."""
    ttl_seconds: PositiveFloat = 600.0
    """Seconds after which a kept answer goes, whatever happened."""
    trust_seconds: NotNegative = 1.0
    """Seconds for which a kept list is taken as it is; then the store is asked whether the user did anything that came
    by another way than this process. 0 asks each time."""


class ServingLimits(Section):
    """What a caller may ask for."""

    body_bytes: Positive = 262_144
    """Largest body of a request."""
    body_seconds: PositiveFloat = 10.0
    """Seconds within which a request's body must be there."""
    k: Annotated[int, Field(gt=0, le=1000)] = 100
    """Longest list."""
    events: Annotated[int, Field(gt=0, le=10_000)] = 100
    """Events of one request."""
    session_events: Annotated[int, Field(gt=0, le=10_000)] = 500
    """Events of a visitor's history."""
    context_items: Annotated[int, Field(gt=0, le=1000)] = 50
    """Items of `context`."""
    requests_per_second: PositiveFloat | None = 1000.0
    """Requests that a caller (an API key; without keys an address) may send a second in the long run; null for any
    number."""
    burst: Positive = 2000
    """Requests that a caller may send at once after a rest."""
    waiting: Positive = 500
    """Lists that may wait for being computed; beyond that callers are told to come back."""


class Serving(Section):
    """The HTTP service (`python -m recsys_spark.serving`)."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, lt=65536)] = 8000
    """Port to listen on; 0 for a free one."""
    workers: Annotated[int, Field(gt=0, le=64)] = 1
    """Processes; each holds the model, whose large arrays they share, and a cache of its own."""
    threads: Annotated[int, Field(gt=0, le=64)] = 1
    """Threads of a process that compute lists, each as many at a time as wait."""
    store_threads: Annotated[int, Field(gt=0, le=64)] = 4
    """Threads of a process that speak to the online store and write event files."""
    torch_threads: Annotated[int, Field(gt=0, le=256)] = 1
    """Threads within one computation."""
    batch_size: Annotated[int, Field(gt=0, le=1024)] = 8
    """Lists that are computed together, at most; those that wait are, nothing waits for more to come."""
    poll_seconds: PositiveFloat = 1.0
    """Seconds between two looks for a new publication (and with it a new champion)."""
    refresh_seconds: PositiveFloat = 10.0
    """Seconds between two looks for what was learned online: parameters and trending counts."""
    api_keys_env: Variable = "RECSYS_API_KEYS"
    """Environment variable that holds the API keys, separated by commas; at least 16 characters each."""
    anonymous: bool = False
    """May the service listen on other addresses than the loopback without any API key."""
    page: bool = True
    """Is the page for people served at `/`."""
    page_users: Annotated[int, Field(ge=0, le=1000)] = 40
    """Users that the page offers to pick from, taken from the newest histories."""
    cache: ServingCache = ServingCache()
    """What is kept."""
    limits: ServingLimits = ServingLimits()
    """What callers may ask for."""
