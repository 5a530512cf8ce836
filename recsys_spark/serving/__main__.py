"""`python -m recsys_spark.serving --config FILE`: run the HTTP service until it is stopped."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

import uvicorn

from recsys_spark.config import Config, load_config
from recsys_spark.errors import UserError
from recsys_spark.online.opening import online_folder, open_configured
from recsys_spark.online.store import StoreError
from recsys_spark.redaction import covered, start_logging
from recsys_spark.serving.configured import HANDED_ON, LOG_FORMAT, configured_app
from recsys_spark.serving.event_files import EventFiles
from recsys_spark.serving.keys import keys_of

GRACE_SECONDS = 10
"""Seconds that answers have to be finished when the service is stopped."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; exit 2 with one line where the service cannot be run as configured."""
    parser = argparse.ArgumentParser(prog="python -m recsys_spark.serving", description=__doc__)
    parser.add_argument("--config", required=True, action="append", help="YAML file; may be given several times")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    options = parser.parse_args(arguments)
    start_logging(logging.INFO, LOG_FORMAT, times=None)
    try:
        config = load_config(options.config, options.overrides)
        return _serve_alone(config) if config.serving.workers == 1 else _serve_by_workers(config)
    except (UserError, StoreError) as error:
        print(covered(str(error)), file=sys.stderr)
        return 2


def _serve_alone(config: Config) -> int:
    serving = config.serving
    settings = uvicorn.Config(
        configured_app(config),
        host=serving.host,
        port=serving.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(settings)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after an orderly end
        server.run()
    return 0 if server.started else 1


def _serve_by_workers(config: Config) -> int:
    serving = config.serving
    keys_of(serving)  # what is wrong is told before there are processes
    open_configured(config).close()
    if config.stream.format == "json":
        EventFiles(config.stream, online_folder(config))
    os.environ[HANDED_ON] = config.model_dump_json()
    uvicorn.run(
        "recsys_spark.serving.configured:worker_app",
        factory=True,
        workers=serving.workers,
        host=serving.host,
        port=serving.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
