"""`python -m recsys_spark.tables show NAME --config FILE`: where a table's newest version lies."""

from __future__ import annotations

import argparse
import glob
import sys

from recsys_spark.config import load_config
from recsys_spark.errors import UserError
from recsys_spark.tables.batches import live_path
from recsys_spark.tables.schemas import LIVE, TABLES
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
        print(_place(Workspace(config.workspace), arguments.name))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _place(workspace: Workspace, name: str) -> str:
    """Where the table is read: the newest version's folder, or a glob over all micro-batches of the stream."""
    if name not in TABLES or TABLES[name].stage != LIVE:
        return str(workspace.table_commit(name).path(name))
    path = live_path(workspace.root, name)
    if not glob.glob(path):
        raise UserError(f"workspace {workspace.root}: no micro-batch has rows of {name}; run jobs/{LIVE}.py first")
    return path


if __name__ == "__main__":
    sys.exit(main())
