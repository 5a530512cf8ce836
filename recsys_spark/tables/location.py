"""How Spark is told of a folder of the workspace."""

from __future__ import annotations

from pathlib import Path


def spark_path(path: Path) -> str:
    """The path as Spark takes it: of the local (or mounted) file system, whatever the cluster's default one is.

    Not `Path.as_uri`: Hadoop takes `%20` as it stands and would write beside a folder whose name has a blank.
    """
    return f"file://{path.absolute()}"
