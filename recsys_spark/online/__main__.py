"""`python -m recsys_spark.online publish|status|expire --config FILE` and `... show USER --config FILE`.

`publish` loads the newest lists of fuse_recommendations into the online store, unless it holds them; `status` says what
serves; `show` what the store knows of a user; `expire` drops users whose time is over. With `--json` all print one JSON
value.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from recsys_spark.config import Config, load_config
from recsys_spark.errors import UserError
from recsys_spark.online.opening import open_configured, shown_url, store_url
from recsys_spark.online.store import OnlineStore, StoreError, UserState
from recsys_spark.redaction import covered, start_logging

SHOWN = 10
"""Newest events of a history that are shown as text."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for; exit 2 with one line where it cannot be done."""
    options = _parser().parse_args(arguments)
    start_logging(logging.WARNING)
    try:
        config = load_config(options.config, options.overrides)
        store = open_configured(config)
        try:
            told, text = _done(options, config, store)
        finally:
            store.close()
    except (UserError, StoreError) as error:
        print(covered(str(error)), file=sys.stderr)
        return 2
    print(json.dumps(told, indent=1) if options.json else text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recsys_spark.online", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("show", help="what the store knows of a user")
    one.add_argument("user", metavar="USER", help="the user's id")
    helps = {"publish": "load the newest lists", "status": "what serves", "expire": "drop users whose time is over"}
    for action in (one, *(actions.add_parser(name, help=text) for name, text in helps.items())):
        action.add_argument("--config", required=True, action="append", help="YAML file; may be given several times")
        action.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
        action.add_argument("--json", action="store_true", help="for programs")
    return parser


def _done(options: argparse.Namespace, config: Config, store: OnlineStore) -> tuple[dict[str, Any], str]:
    if options.action == "publish":
        return _publish(config, store)
    if options.action == "status":
        return _status(config, store)
    if options.action == "expire":
        gone = store.expire(time.time())
        return {"users": gone}, f"{gone} users dropped"
    return _show(store, options.user)


def _publish(config: Config, store: OnlineStore) -> tuple[dict[str, Any], str]:
    # Late: what serves needs nothing of Spark or of the registry.
    from recsys_spark.online.publishing import publish_batch
    from recsys_spark.tables.workspace import Workspace
    from recsys_spark.tracking.runs import Tracker

    workspace = Workspace(config.workspace)
    done = publish_batch(store, config, workspace, Tracker(config, workspace.root))
    told = {"publication": done.publication.number, "model": done.publication.model, "new": done.new}
    verb = f"loaded with {done.users} users" if done.new else "serves already"
    return {**told, "users": done.users}, f"publication {done.publication.number} of {told['model']} {verb}"


def _status(config: Config, store: OnlineStore) -> tuple[dict[str, Any], str]:
    publication, (version, parameters) = store.publication(), store.parameters()
    batches = store.batches()
    told: dict[str, Any] = {
        "store": shown_url(store_url(config)),
        "publication": None if publication is None else asdict(publication),
        "parameters": {"version": version, "bytes": len(parameters or b"")},
        "counts": len(store.counts()),
        "newest_batch": batches[-1] if batches else None,
    }
    if publication is None:
        return told, f"{told['store']}: nothing was published; run python -m recsys_spark.online publish"
    lines = [
        f"{told['store']}: publication {publication.number} of {publication.model}",
        f"events before {_time(publication.as_of)}, loaded {_time(publication.made_at)}",
        f"model {publication.model_path}",
        f"online parameters: version {version}; trending counts of {told['counts']} items",
    ]
    return told, "\n".join(lines)


def _show(store: OnlineStore, user_id: str) -> tuple[dict[str, Any], str]:
    """Raises UserError for a user of whom nothing is known."""
    state = store.users([user_id]).get(user_id)
    if state is None:
        raise UserError(f"user {user_id!r}: the online store knows nothing of this user")
    told = {
        "user_id": user_id,
        "events": state.events,
        "stale": state.stale,
        "history": [event._asdict() for event in state.history],
        "list": None if state.list is None else asdict(state.list),
        "vectors": {name: vector.tolist() for name, vector in state.vectors.items()},
    }
    return told, _state_text(state)


def _state_text(state: UserState) -> str:
    lines = [f"{state.user_id}: {state.events} events, the newest:"]
    lines += [
        f"  {_time(event.event_time)} {event.event_type} {event.item_id}" for event in state.history[: -SHOWN - 1 : -1]
    ]
    if state.list is None:
        return "\n".join([*lines, "no list: the service makes one when it is asked"])
    behind = f", {state.events - state.list.events} events behind" if state.stale else ""
    made = f"publication {state.list.publication}, by the {state.list.source}, {_time(state.list.made_at)}"
    lines.append(f"{state.list.kind} list of {state.list.model} ({made}{behind}):")
    lines += [f"  {row.rank:3d} {row.item_id} {row.score:.4f} {row.reason}" for row in state.list.rows]
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


if __name__ == "__main__":
    sys.exit(main())
