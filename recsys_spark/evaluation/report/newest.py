"""Where the newest report stands."""

from __future__ import annotations

from pathlib import Path

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.evaluation.report import REPORT
from recsys_spark.tables.workspace import Workspace

STAGE = "evaluate_models"


def newest_report(config: Config) -> Path:
    """The report of the newest evaluation. Raises UserError where there is none."""
    path = Workspace(config.workspace).require(STAGE).path(REPORT)
    if not path.is_file():
        raise UserError(f"{path}: the newest evaluation has no report; run jobs/{STAGE}.py again")
    return path
