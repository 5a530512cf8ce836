"""A process that holds the lock of a workspace: `python holding.py ROOT LEASE_SECONDS`.

It prints `held` when it has the lock, and does what the lines on its standard input say, until these end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from recsys_spark.scheduling.lease import BusyError, Lease, LeaseLostError, held
from recsys_spark.tables.pointer import publish as publish_commit


def publish(lease: Lease, root: Path, name: str) -> None:
    from recsys_spark.tables.workspace import Workspace  # late: it brings Spark, which most of these do not need

    workspace = Workspace(str(root))
    publish_commit(
        workspace.stage_directory("s"),
        "s",
        workspace.new_run_directory("s", name),
        key=name,
        run_id=name,
        tables={},
        inputs={},
        metrics={},
        facts={},
        as_of=None,
        fence=lease.fence,
    )


def obey(lease: Lease, root: Path, line: str) -> None:
    verb, _, word = line.strip().partition(" ")
    if verb == "name":
        lease.name_run(word)
    elif verb == "sleep":
        time.sleep(float(word))
    else:
        assert verb == "publish", line
        publish(lease, root, word)
    print("ok", flush=True)


if __name__ == "__main__":
    root, seconds = Path(sys.argv[1]), float(sys.argv[2])
    try:
        with held(root, "holding", seconds) as lease:
            print("held", flush=True)
            for line in sys.stdin:
                obey(lease, root, line)
    except (BusyError, LeaseLostError) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
