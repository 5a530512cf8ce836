"""JSON objects from files that may be damaged, or made by somebody who means harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST = 64 << 20
"""Bytes of a file that is read."""


def read_object(path: Path, most_bytes: int = LARGEST) -> dict[str, Any]:
    """The object in a file. Raises ValueError for whatever is none, OSError where the file cannot be read."""
    if path.stat().st_size > most_bytes:
        raise ValueError(f"{path.name} is larger than any that this program writes")
    return parsed_object(path.read_bytes(), path.name)


def parsed_object(text: bytes | str, name: str) -> dict[str, Any]:
    """The object that a text holds. Raises ValueError for whatever is none, also where it is nested without end."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name} holds no JSON object")
    return content
