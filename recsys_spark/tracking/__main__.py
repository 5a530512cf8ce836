"""`python -m recsys_spark.tracking lineage RUN_ID --config FILE` and `... models --config FILE`.

`lineage` prints what made a row, from the `run_id` that it names; `models` who is champion and challenger, and the last
decisions. With `--json` both print one JSON value.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from recsys_spark.config import Config, load_config
from recsys_spark.errors import UserError
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import registered
from recsys_spark.tracking.lineage import lineage, tree
from recsys_spark.tracking.registry import registered_versions
from recsys_spark.tracking.runs import Tracker

LAST = 10
"""Decisions that are shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was asked for; exit 2 with one line where there is nothing of it."""
    parser = argparse.ArgumentParser(
        prog="python -m recsys_spark.tracking", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("lineage", help="what made a row")
    one.add_argument("run_id", metavar="RUN_ID", help="of a row, a stage or a whole run of the pipeline")
    for action in (one, actions.add_parser("models", help="aliases and the last decisions")):
        action.add_argument("--config", required=True, action="append", help="YAML file; may be given several times")
        action.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
        action.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config, options.overrides)
        workspace = Workspace(config.workspace)
        if not (workspace.root / "stages").is_dir():
            raise UserError(f"workspace {workspace.root}: nothing was published in it")
        tracker = Tracker(config, workspace.root)
        if options.action == "lineage":
            found = lineage(workspace, tracker, options.run_id)
            text = json.dumps(found, indent=1) if options.json else tree(found, _defaults(config))
        else:
            told = _models(workspace, tracker)
            text = json.dumps(told, indent=1, default=str) if options.json else _models_text(told)
        print(text)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _defaults(config: Config) -> dict[str, Any]:
    return Config(source=config.source).model_dump(mode="json", exclude={"source"})


def _models(workspace: Workspace, tracker: Tracker) -> dict[str, Any]:
    from recsys_spark.promotion.ledger import STAGE, read_decisions

    aliases = []
    for name, alias, version in registered_versions(tracker):
        model = registered(tracker, name, version)
        aliases.append({"model": name, "alias": alias, "version": version, "content": model.content if model else None})
    return {"aliases": aliases, "decisions": read_decisions(workspace.latest(STAGE))[-LAST:]}


def _models_text(told: dict[str, Any]) -> str:
    lines = [f"{each['model']}@{each['alias']}: version {each['version']}" for each in told["aliases"]]
    lines = lines or ["no registered model has an alias"]
    lines += ["", "decisions:" if told["decisions"] else "no decision yet (jobs/promote_model.py)"]
    for row in told["decisions"]:
        who = f" by {row['approved_by']}" if row["approved_by"] else ""
        why = f": {row['comment']}" if row["comment"] else ""
        over = f" over {row['champion']}" if row["champion"] else ""
        time = row["decided_at"].strftime("%Y-%m-%d %H:%M")
        lines.append(f"{row['decision_id']} {time} {row['model']}/{row['challenger']} {row['action']}{over}{who}{why}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
