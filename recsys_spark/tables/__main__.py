"""`python -m recsys_spark.tables show NAME --config FILE`: the path of a table's newest version."""

from __future__ import annotations

import argparse
import sys

from recsys_spark.config import load_config
from recsys_spark.errors import UserError
from recsys_spark.tables.schemas import TABLES
from recsys_spark.tables.workspace import Workspace


def main() -> int:
    """Print the path; exit 2 with one line where there is none."""
    parser = argparse.ArgumentParser(prog="python -m recsys_spark.tables", description=__doc__)
    parser.add_argument("action", choices=["show"])
    parser.add_argument("name", help=f"one of {', '.join(sorted(TABLES))}")
    parser.add_argument("--config", required=True, action="append", help="YAML file; may be given several times")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    arguments = parser.parse_args()
    try:
        config = load_config(arguments.config, arguments.overrides)
        print(Workspace(config.workspace).table_commit(arguments.name).path(arguments.name))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
