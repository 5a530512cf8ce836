"""API keys: taken from the environment, compared in constant time, kept as hashes only."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Mapping

from recsys_spark.config.serving import Serving
from recsys_spark.errors import UserError
from recsys_spark.redaction import remember

SHORTEST = 16
"""Characters of a key, at least."""


class ApiKeys:
    """The keys that open the service. Its text and its parts tell nothing of them."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._hashes = tuple(_hashed(key.encode()) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def caller(self, given: bytes | None) -> str | None:
        """A name for the caller with this key, the same each time, or None where it opens nothing.

        Takes the same time whichever key it is, and wherever it differs.
        """
        if given is None:
            return None
        found = None
        hashed = _hashed(given)
        for place, known in enumerate(self._hashes):
            if hmac.compare_digest(hashed, known):
                found = f"key {place}"
        return found


def keys_of(serving: Serving, environment: Mapping[str, str] = os.environ) -> ApiKeys:
    """The keys of the environment variable that the configuration names.

    Raises UserError where a key is short, or where there is none and others than this machine could call.
    """
    keys = tuple(key.strip() for key in environment.get(serving.api_keys_env, "").split(",") if key.strip())
    for key in keys:
        remember(key)
    if any(len(key) < SHORTEST for key in keys):
        raise UserError(
            f"environment {serving.api_keys_env}: a key has less than {SHORTEST} characters; use longer ones"
        )
    if not keys and not serving.anonymous and not _loopback(serving.host):
        raise UserError(
            f"serving.host {serving.host}: would be open to everyone; put API keys into the environment variable "
            f"{serving.api_keys_env}, or set serving.anonymous=true"
        )
    return ApiKeys(keys)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hashed(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
