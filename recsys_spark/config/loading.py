"""From YAML files and --set overrides to a Config, or to one clear line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from recsys_spark.config.root import Config
from recsys_spark.errors import UserError


def load_config(paths: Sequence[str], overrides: Sequence[str] = ()) -> Config:
    """Merge the YAML files left to right, then the `a.b=c` overrides, and check the result.

    Raises UserError with one line that names the file or key.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        _merge(merged, _read(path))
    for override in overrides:
        _merge(merged, _parse_override(override))
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise UserError(f"configuration {', '.join(paths)}: {one_line(error)}") from None


def _read(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"configuration {path}: cannot be read ({error.strerror}); check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"configuration {path}: not valid YAML ({_place(error)})") from None
    if not isinstance(content, dict):
        raise UserError(f"configuration {path}: must be a mapping of keys, see docs/configuration.md")
    return content


def _place(error: Exception) -> str:
    """What is wrong with a YAML file, and where, without its lines: they may hold anything."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    mark = error.problem_mark
    return f"{error.problem or error.context} in line {mark.line + 1}, column {mark.column + 1}"


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(part for part in key.split(".")):
        raise UserError(f"--set {key.partition(':')[0]}: write it as a.b=value")  # the rest may be a secret
    try:
        nested: Any = yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError):
        raise UserError(f"--set {key}: the value is not valid YAML") from None
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return dict(nested)


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    """Put `other` into `into`, mappings key by key, everything else replaced."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def one_line(error: ValidationError) -> str:
    """What is wrong with which key."""
    problems = []
    for detail in error.errors():
        where = ".".join(str(part) for part in detail["loc"]) or "configuration"
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = "unknown key; see docs/configuration.md for the known ones"
        problems.append(f"{where}: {message}")
    return "; ".join(problems)
