"""Secrets come from environment variables that the configuration names, through this one door."""

from __future__ import annotations

import os
from collections.abc import Mapping

from recsys_spark.errors import UserError
from recsys_spark.redaction import remember


def secret_of(variable: str, key: str, environment: Mapping[str, str] = os.environ) -> str:
    """The value of an environment variable, which no text that leaves the program will show from now on.

    Blanks around it (a line's end, mostly) are no part of it. `key` is the key of the configuration that names it.
    Raises UserError where it is not set, or holds nothing.
    """
    secret = environment.get(variable, "").strip()
    if not secret:
        raise UserError(f"{key}: the environment variable {variable} is not set; export it")
    remember(secret)
    return secret
