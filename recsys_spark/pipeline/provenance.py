"""What a run was made with: configuration, code and libraries, as its run in MLflow keeps it."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache
from typing import Any

from recsys_spark.config import Config
from recsys_spark.pipeline.keys import LOCKED, code_version
from recsys_spark.redaction import covered_values

FILE = "provenance.json"
"""The artifact of each stage's run."""
LIBRARIES = (*LOCKED, "lightgbm", "mlflow", "pandas", "peft", "pydantic", "safetensors", "transformers")


def provenance(config: Config) -> dict[str, Any]:
    """Configuration without secrets, hash of the code, Python and the versions of libraries that are installed."""
    return {
        "config": shown(config),
        "code_version": code_version(),
        "python": platform.python_version(),
        "libraries": _installed(),
    }


def shown(config: Config) -> dict[str, Any]:
    """The configuration as it may be read by everybody: what may be a secret is covered."""
    content: dict[str, Any] = covered_values(config.model_dump(mode="json"))
    return content


@cache
def _installed() -> dict[str, str]:
    found = {}
    for name in sorted(LIBRARIES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
