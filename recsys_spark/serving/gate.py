"""The gate before every route: keys, rate limits, bounded bodies, and the count of all that passed.

Plain ASGI, so that a refused request costs next to nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from recsys_spark.config.serving import Serving
from recsys_spark.serving.keys import ApiKeys
from recsys_spark.serving.limits import RateLimit
from recsys_spark.serving.metrics import Metrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
KEYED = ("/v1/", "/page/", "/metrics")
"""Paths that need an API key, where there are keys; the others tell nothing of users."""
UNLIMITED = ("/health", "/ready", "/metrics")
"""What machines ask for every few seconds, and what must answer while a caller sends too much."""
HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
logger = logging.getLogger("recsys_spark")


class BadBodyError(Exception):
    """A body that is not read to its end, and the status that says so."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Gate:
    """Lets requests through to the app, or answers why not."""

    def __init__(self, app: App, serving: Serving, keys: ApiKeys, metrics: Metrics) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._limits = serving.limits
        self._rate = RateLimit(serving.limits.requests_per_second, serving.limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; anything else (the start and the end of the process) passes as it is."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        answer = Answer(send)
        try:
            await self._passed(scope, receive, answer)
        except Exception as error:
            if answer.status:
                raise
            logger.exception("no answer to %s %s", scope["method"], _route(scope), exc_info=error)
            await answer.refuse(500, "the service failed; its log says why")
        finally:
            route = _route(scope)
            self._metrics.requests.labels(route, str(answer.status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)

    async def _passed(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        path, headers = scope["path"], dict(scope["headers"])
        known = self._keys.caller(_key(headers)) if self._keys else None
        if path not in UNLIMITED:
            wait = self._rate.wait(known or f"address {(scope.get('client') or ('',))[0]}")
            if wait:
                await answer.refuse(429, "too many requests", [(b"retry-after", str(wait).encode())])
                return
        if self._keys and known is None and path.startswith(KEYED):
            await answer.refuse(401, "give an API key in the header X-API-Key", [(b"www-authenticate", b"Bearer")])
            return
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            await self._app(scope, receive, answer.send)
            return
        try:
            body = await asyncio.wait_for(self._body(headers, receive), self._limits.body_seconds)
        except BadBodyError as bad:
            await answer.refuse(bad.status, bad.detail, [(b"connection", b"close")])
            return
        except TimeoutError:
            await answer.refuse(408, "the body took too long", [(b"connection", b"close")])
            return
        await self._app(scope, _replayed(body, receive), answer.send)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body. Raises BadBodyError where it is too large, by its own account or in truth."""
        most = self._limits.body_bytes
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            raise BadBodyError(413, f"the body is larger than {most} bytes")
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BadBodyError(400, "the body was cut off")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise BadBodyError(413, f"the body is larger than {most} bytes")
            if not message.get("more_body", False):
                return b"".join(parts)


class Answer:
    """What goes back to the caller; remembers the status, 0 before there is one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Hand on a message of the app's, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await self._send(message)

    async def refuse(self, status: int, detail: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Answer without the app."""
        body = json.dumps({"detail": detail}).encode()
        own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
        await self.send({"type": "http.response.start", "status": status, "headers": own})
        await self.send({"type": "http.response.body", "body": body})


def _key(headers: dict[bytes, bytes]) -> bytes | None:
    """The key that a request brings: X-API-Key, or Authorization: Bearer."""
    given = headers.get(b"x-api-key")
    if given is None:
        kind, _, value = headers.get(b"authorization", b"").partition(b" ")
        given = value.strip() if kind.lower() == b"bearer" else None
    return given


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, once; then whatever else comes."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> MutableMapping[str, Any]:
        return messages.pop() if messages else await receive()

    return again


def _route(scope: Scope) -> str:
    """The route's template: what callers put into paths is no label."""
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
