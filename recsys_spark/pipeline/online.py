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


def publish_online(runner: Runner) -> dict[str, Any]:
    """Load the newest lists into the store unless it holds them; what the job's JSON line says of it.

    Raises UserError where the store does not take them: the tables are published all the same.
    """
    try:
        store = open_configured(runner.config)
        try:
            done = publish_batch(store, runner.config, runner.workspace, runner.tracker)
        finally:
            store.close()
    except StoreError as error:
        raise UserError(f"{error}; the tables are published, run python -m recsys_spark.online publish later") from None
    verb = f"loaded {done.users} users as" if done.new else "holds the lists as"
    log.info("online store: %s publication %d", verb, done.publication.number)
    return {"online": {"publication": done.publication.number, "new": done.new, "users": done.users}}
