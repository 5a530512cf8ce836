"""Publishing again what was published before: the same files under a new version, so that either may be removed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys_spark.tables.pointer import Commit, publish, sync_tree
from recsys_spark.tables.workspace import Workspace


def link_tree(source: Path, target: Path) -> None:
    """Build the folder `target` with hard links to every file below `source`; files are immutable once published."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)


def publish_again(workspace: Workspace, commit: Commit, facts: Mapping[str, Any]) -> Commit:
    """Make an earlier commit the newest one of its stage, as it was; `facts` are added to its own.

    It keeps its key and its run: it is made from the same things, and its rows name that run.
    """
    directory = workspace.new_run_directory(commit.stage, commit.run_id)
    link_tree(Path(commit.directory), directory)
    sync_tree(directory)
    return publish(
        workspace.stage_directory(commit.stage),
        commit.stage,
        directory,
        key=commit.key,
        run_id=commit.run_id,
        tables=commit.tables,
        inputs=commit.inputs,
        metrics=commit.metrics,
        facts={**commit.facts, **facts},
        as_of=commit.as_of,
        fence=workspace.fence,
    )
