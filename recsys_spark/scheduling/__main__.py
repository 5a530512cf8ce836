"""`python -m recsys_spark.scheduling status --config FILE`: who holds the lock of the workspace, and the last runs.

With `--json` it is one JSON value.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from recsys_spark.config import load_config
from recsys_spark.errors import UserError
from recsys_spark.scheduling.job_runs import read_runs
from recsys_spark.scheduling.lease import Claim, Lock
from recsys_spark.tables.workspace import Workspace

COLUMNS = ("started", "job", "date", "attempt", "status", "seconds", "rows_in", "rows_out", "error")
RIGHT = ("attempt", "seconds", "rows_in", "rows_out")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print it; exit 2 with one line where there is no workspace."""
    parser = argparse.ArgumentParser(
        prog="python -m recsys_spark.scheduling", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("action", choices=["status"])
    parser.add_argument("--config", required=True, action="append", help="YAML file; may be given several times")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    parser.add_argument("--last", type=int, default=10, metavar="N", help="runs that are shown (default 10)")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config, options.overrides)
        workspace = Workspace(config.workspace)
        if not workspace.root.is_dir():
            raise UserError(f"workspace {workspace.root}: there is none yet; run jobs/run_pipeline.py first")
        claim = Lock(workspace.root).look()
        runs = read_runs(workspace)[-max(options.last, 0) :] if options.last else []
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"lock": _lock(claim), "runs": runs}, indent=1, default=str))
    else:
        print("\n".join([_lock_line(claim), "", *_table(runs)]))
    return 0


def _lock(claim: Claim | None) -> dict[str, Any]:
    if claim is None or claim.free:
        return {"held": False}
    holder = claim.holder
    told = {name: getattr(holder, name) for name in ("job", "run_id", "host", "pid", "since", "lease_seconds")}
    return {"held": True, **told, "silent_seconds": round(claim.silent_seconds, 1)}


def _lock_line(claim: Claim | None) -> str:
    if claim is None:
        return "lock: free; no job ever held it"
    if not claim.free:
        return f"lock: held by {claim.holder.line}, last sign of life {claim.silent_seconds:.0f} s ago"
    if claim.holder.released:
        return f"lock: free; last held by {claim.holder.line}"
    return f"lock: free; {claim.holder.line} died, or its lease of {claim.holder.lease_seconds:g} s ran out"


def _table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    if not runs:
        return ["no run is recorded"]
    rows = [COLUMNS, *(tuple(_cell(name, run[name]) for name in COLUMNS) for run in runs)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    return [
        "  ".join(
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(COLUMNS, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "started":
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:,}" if name in ("rows_in", "rows_out") else str(value)


if __name__ == "__main__":
    sys.exit(main())
