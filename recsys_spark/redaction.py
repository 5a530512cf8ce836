"""The one place that knows what a secret looks like, and covers it wherever text leaves the program.

Two things are covered: values that were read as secrets (`remember`), wherever they stand and however they are
escaped; and what looks like a secret by where it stands (`//user:secret@host`, `password=...`). Everything that is
logged, printed, tracked or written into a table goes through `covered` or `covered_values`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

COVERED = "***"
SHORTEST = 6
"""Characters of a secret that is covered by its value: a shorter one would be found in the middle of other words."""
SECRET = re.compile(
    r"passw|passphrase|(?<![a-z])pwd(?![a-z])|secret|token(?!iz|s)|credential|jaas"
    r"|(?:access|account|api|private|shared|signing|encryption)[._-]?key|(?<![a-z])sas(?![a-z])",
    re.IGNORECASE,
)
"""Parts of the names of settings, parameters and environment variables whose values nobody may read."""
PUBLIC = re.compile(
    r"^(?:old)?pwd$|[_.]env$|[._-]?(?:file|path|dir|provider|enabled|type|class|providers|location|renewal|lifetime)$"
    r"|secretkeyref|\.secrets\.|callback",
    re.IGNORECASE,
)
"""Names that sound like those and hold where a secret is, or how it is treated: `...credentials.provider`."""
USER_INFO = re.compile(r"(?<=//)[^\s/@?'\"<>:]*:(?!\d{1,5}[/?#])[^\s'\"<>]*@")
"""`user:secret@` after `//`, up to the last @, since a secret may hold one; `//host:80/a@b` is none."""
ASSIGNED = re.compile(r"([\w.-]+)(=|%3D|[\"']\s*:\s*[\"'])([^\s&;,\"')}]+)", re.IGNORECASE)
"""`name=value` of URLs, properties and options, and `"name": "value"` of JSON."""
IN_URL = re.compile(r"passw|pwd=|//[^/@?]*:[^/@?]*@|:[^/@:]+/[^@]+@", re.IGNORECASE)
"""`?password=`, `;pwd=`, `//user:secret@host`, and Oracle's `thin:user/secret@host`."""

_known: set[str] = set()


def is_secret(name: str) -> bool:
    """Does a setting or variable of this name hold a secret, as far as its name tells."""
    return SECRET.search(name) is not None and PUBLIC.search(name) is None


def holds_secret(text: str) -> bool:
    """Does a URL, or the text of an option, hold a password or something like it."""
    plain = unquote(text)
    if IN_URL.search(text) or IN_URL.search(plain):
        return True
    return any(is_secret(found[1]) for found in ASSIGNED.finditer(plain))


def remember(secret: str | None) -> None:
    """Cover this value from now on, wherever it stands."""
    for value in filter(None, (secret, (secret or "").strip(), *(secret or "").split("\n"))):
        if len(value) >= SHORTEST:
            _known.update((value, quote(value, safe=""), quote(value), quote_plus(value)))
            _known.update((json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]))


def remember_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Cover the values of environment variables whose names say that they are secrets: AWS_SECRET_ACCESS_KEY."""
    for name, value in environment.items():
        if is_secret(name) and not os.path.exists(value):
            remember(value)


def covered(text: str) -> str:
    """The text without secrets."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, COVERED)
    text = USER_INFO.sub(f"{COVERED}@", text)
    return ASSIGNED.sub(lambda found: f"{found[1]}{found[2]}{COVERED}" if is_secret(found[1]) else found[0], text)


def covered_values(value: Any, name: str = "") -> Any:
    """The same of each text in mappings and lists; a text whose key names a secret is covered whole."""
    if isinstance(value, Mapping):
        named_only = name.endswith("_env")  # setting to the name of a variable
        return {key: covered_values(each, "" if named_only else str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [covered_values(each, name) for each in value]
    if not isinstance(value, str):
        return value
    return COVERED if value and is_secret(name) else covered(value)


class CoveringFormatter(logging.Formatter):
    """Lines of a log, stacks of errors included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return covered(super().format(record))


def start_logging(level: int, style: str = "%(asctime)s %(message)s", times: str | None = "%H:%M:%S") -> None:
    """Log to stderr without secrets, those of the environment among them, where nothing logs yet."""
    remember_environment()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(CoveringFormatter(style, times))
    logging.basicConfig(level=level, handlers=[handler])


def print_stack() -> None:
    """The stack of the error that is handled, on stderr, without secrets."""
    print(covered(traceback.format_exc()), file=sys.stderr, end="", flush=True)
