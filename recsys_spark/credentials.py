"""Secrets come from environment variables that the configuration names, through this one door."""

from __future__ import annotations

import os

from recsys_spark.errors import UserError
from recsys_spark.redaction import remember


def secret_of(variable: str, key: str) -> str:
    """The value of an environment variable, which no text that leaves the program will show from now on.

    `key` is the key of the configuration that names it. Raises UserError where it is not set.
    """
    secret = os.environ.get(variable)
    if secret is None:
        raise UserError(f"{key}: the environment variable {variable} is not set; export it")
    remember(secret)
    return secret
