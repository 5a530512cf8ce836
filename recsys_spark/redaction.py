"""The one place that knows what a secret looks like, and covers it wherever text leaves the program.

Two things are covered: values that were read as secrets (`remember`), wherever they stand and however they are
escaped; and what looks like a secret by where it stands (`//user:secret@host`, `password=...`, a private key in PEM).
Where it cannot be told where a secret ends, more is covered, not less. Everything that is logged, printed, tracked or
written into a table goes through `covered` or `covered_values`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

COVERED = "***"
SHORTEST = 6
"""Characters of a secret that is covered by its value: a shorter one would be found in the middle of other words."""
LONG = 12
"""Characters from which a value that is only taken for a secret (by a variable's name, or as a part of one) is covered
wherever it stands; a shorter one (`postgres`) only where it stands alone, and not as a part of a path or a name."""
SECRET = re.compile(
    r"passw|passphrase|(?<![a-z])pwd(?![a-z])|secret|token(?!iz|s)|credential|jaas|key_?store[._-]?key(?![a-z])"
    r"|(?:access|account|api|private|shared|signing|encryption)[._-]?key|(?<![a-z])sas(?![a-z])",
    re.IGNORECASE,
)
"""Parts of the names of settings, parameters and environment variables whose values nobody may read."""
PUBLIC = re.compile(
    r"^(?:old)?pwd$|[_.]env$|(?:file|path|dir|provider|enabled|type|class|providers|location|renewal|lifetime"
    r"|mechanism|algorithm|keysizebits|bitlength|renewalratio|retrywait|renewal\.credentials|pullsecrets"
    r"|endpoint|endpoint\.url|error|exception)$"
    r"|secretkeyref|\.secrets\.|callback|\.provider\.type\.|\.keyprovider\.",
    re.IGNORECASE,
)
"""Names that sound like those and hold where a secret is, or how it is treated: `...credentials.provider`."""
ADDRESSED = re.compile(r"(?<![^\s'\"<>])[^\s'\"<>]*@")
"""An address up to its last @, since a secret may hold one."""
USER_INFO = re.compile(r"(?<=//)[^\s/@?'\"<>:]*:(?!\d{1,5}[/?#])")
"""`user:` after `//`, in an address; what follows up to the last @ is a secret. `//host:80/a@b` has none."""
ASSIGNED = re.compile(
    r"(?<![\w.-])([\w.-]+)"
    r"(\\*[\"']?\]?[ \t]*(?:=[=>]?|%3D|:=?(?!:|//|\d{1,5}(?![\w-])| unknown key))[ \t]*)",
    re.IGNORECASE,
)
"""`name=` of URLs, properties and options, and `name:` of JSON, YAML and sentences; `host:80` and our own error of a
key that is unknown are none."""
VALUE = re.compile(
    r"\"(?P<double>(?:[^\"\\\n]|\\.)+)\"|'(?P<single>(?:[^'\\\n]|\\.|'')+)'"
    r"|(?P<sign>\\+[\"'])(?P<escaped>.+?)(?P=sign)|\[(?P<list>[^\]\[{}\n]+)\](?=[\s,;}\])]|$)"
    r"|(?!\{\s*(?:[\"'}]|[\w.-]+\s*[=:]|$))"
    r"(?P<bare>[\"']?(?:[^\s\"'&;]|[\"'](?=\w)|[&;](?![\w.-]+(?:=|%3D)))+)"
)
"""What stands after such a name. In quotes it goes to the closing quote. Bare it goes to a blank, to a quote at the
end of a word, or to `&` or `;` before another `name=`, and holds everything else: a password may hold `, ; ) }`. So
what follows a comma without a blank (`password=x,user=y`) and a bracket after it are covered with it, which hides too
much, where to stop at them would show the rest of a secret. A bare secret with blanks is covered to the first."""
KEY = re.compile(r"-----BEGIN [^-\n]*PRIVATE KEY-----.*?(?:-----END [^-\n]*PRIVATE KEY-----|\Z)", re.DOTALL)
"""A private key that stands in a text itself (PEM)."""
IN_URL = re.compile(r"passw|pwd=|//[^/@?]*:[^/@?]*@|:(?!\d{1,5}/)[^/@:]+/[^@]+@|-----BEGIN [^-]*PRIVATE", re.IGNORECASE)
"""`?password=`, `;pwd=`, `//user:secret@host`, Oracle's `thin:user/secret@host`, and private keys."""
SERVICE = re.compile(r"_SERVICE_HOST$|_PORT(?:_\w+)?$")
"""Variables by which a container learns of a service: SECRET_STORE_PORT is no secret."""

_known: set[str] = set()
_taken: set[str] = set()
"""Short values that are only taken for secrets; see LONG."""
_order: list[tuple[str, re.Pattern[str] | None]] = []
_order_of: tuple[set[str], int, set[str], int] = (_known, 0, _taken, 0)


def is_secret(name: str) -> bool:
    """Does a setting or variable of this name hold a secret, as far as its name tells."""
    return SECRET.search(name) is not None and PUBLIC.search(name) is None


def holds_secret(text: str) -> bool:
    """Does a URL, or the text of an option, hold a password or something like it."""
    plain = unquote(text)
    if IN_URL.search(text) or IN_URL.search(plain):
        return True
    # A colon within a word is more often an address's (arn:aws:secretsmanager:...) than an assignment.
    return any(is_secret(name) and sign != ":" for name, sign, _ in _names(plain))


def remember(secret: str | None, sure: bool = True) -> None:
    """Cover this value from now on, wherever it stands, and what is a secret within it: an address's password.

    With `sure` False it is only taken for a secret, as are the parts of one: short ones are covered where they stand
    alone.
    """
    secret = secret or ""
    for value in (secret, secret.strip(), *secret.split("\n")):
        _remember(value, sure)
    for part in _parts(secret):
        _remember(part, sure=False)
        _remember(unquote(part), sure=False)


def _remember(value: str, sure: bool) -> None:
    if len(value) >= SHORTEST:
        known = _known if sure or len(value) >= LONG else _taken
        known.update((value, quote(value, safe=""), quote(value), quote_plus(value)))
        known.update((json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]))


def _parts(secret: str) -> Iterator[str]:
    """Passwords of addresses, and values of secret names, within a secret (an address, a JAAS text)."""
    for address in ADDRESSED.finditer(secret):
        user = USER_INFO.search(address[0])
        if user is not None:
            yield address[0][user.end() : -1]
    for start, end in _assigned(secret):
        yield secret[start:end]


def remember_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Cover the values of environment variables whose names say that they are secrets: AWS_SECRET_ACCESS_KEY."""
    for name, value in environment.items():
        if is_secret(name) and not SERVICE.search(name) and not os.path.exists(value):
            remember(value, sure=False)


def covered(text: str) -> str:
    """The text without secrets."""
    for secret, alone in _longest_first():
        if secret in text:
            text = text.replace(secret, COVERED) if alone is None else alone.sub(COVERED, text)
    text = ADDRESSED.sub(_without_user, KEY.sub(COVERED, text))
    place, pieces = 0, []
    for start, end in _assigned(text):
        pieces += [text[place:start], COVERED]
        place = end
    return "".join([*pieces, text[place:]])


def _longest_first() -> list[tuple[str, re.Pattern[str] | None]]:
    """Known values, the longest first, each with the pattern by which it stands alone, where that matters."""
    global _order, _order_of
    state = (_known, len(_known), _taken, len(_taken))  # values are only added
    if _order_of != state:
        patterns = {
            value: re.compile(rf"(?<![\w/-])(?<!\w\.){re.escape(value)}(?![\w/-]|\.\w)") for value in list(_taken)
        }
        values = sorted([*patterns.keys() - _known, *_known], key=len, reverse=True)
        _order, _order_of = [(value, None if value in _known else patterns[value]) for value in values], state
    return _order


def _without_user(address: re.Match[str]) -> str:
    user = USER_INFO.search(address[0])
    return address[0] if user is None else f"{address[0][: user.start()]}{COVERED}@"


def _names(text: str) -> Iterator[tuple[str, str, int]]:
    """Names to which something is assigned, the sign, and where the value begins."""
    for found in ASSIGNED.finditer(text):
        if ":" not in found[2] or text[found.start() - 1 : found.start()] != "/":  # a file's name, or a host's
            yield found[1], found[2], found.end()


def _assigned(text: str) -> Iterator[tuple[int, int]]:
    """Where the values of secret names begin and end."""
    done = 0
    for name, _, place in _names(text):
        if place >= done and is_secret(name):
            value = VALUE.match(text, place)
            if value is not None:
                start, done = value.span(value.lastgroup or 0)
                yield start, done


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
