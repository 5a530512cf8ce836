"""Loading what a job published into the online store, which `online.publish` asks for."""

from __future__ import annotations

import logging
from typing import Any

from recsys_spark.errors import UserError
from recsys_spark.online.opening import open_configured
from recsys_spark.online.publishing import publish_batch
from recsys_spark.online.store import StoreError
from recsys_spark.pipeline.runner import Runner

log = logging.getLogger("recsys_spark")
_LATER = "the tables are published, run python -m recsys_spark.online publish later"


def publish_online(runner: Runner) -> dict[str, Any]:
    """Load the newest lists into the store unless it holds them; what the job's JSON line says of it.

    The tables are published whatever becomes of it. Raises UserError where the store cannot be opened, which is taken
    for bad configuration, and StoreError where it is lost on the way: a fault, which may be tried again.
    """
    try:
        store = open_configured(runner.config)
    except StoreError as error:
        raise UserError(f"{error}; {_LATER}") from None
    try:
        done = publish_batch(store, runner.config, runner.workspace, runner.tracker)
    except StoreError as error:
        raise StoreError(f"{error}; {_LATER}") from error
    finally:
        store.close()
    verb = f"loaded {done.users} users as" if done.new else "holds the lists as"
    log.info("online store: %s publication %d", verb, done.publication.number)
    return {"online": {"publication": done.publication.number, "new": done.new, "users": done.users}}
