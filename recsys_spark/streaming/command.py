"""The command line of `jobs/update_online.py`: as of the other jobs, but that it goes on until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence

from recsys_spark.config import load_config
from recsys_spark.errors import UserError
from recsys_spark.online.store import StoreError
from recsys_spark.pipeline.command import BAD_INPUT, DONE, FAULT, Report, print_line
from recsys_spark.redaction import covered, print_stack, start_logging

JOB = "update_online"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stream; returns the exit code: 0 stopped or done, 2 bad input or configuration, 1 a fault."""
    parser = argparse.ArgumentParser(
        prog=f"jobs/{JOB}.py", description="Take live events in and renew the lists of the users concerned."
    )
    parser.add_argument(
        "--config", required=True, action="append", metavar="FILE", help="YAML file; several are merged left to right"
    )
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="override")
    parser.add_argument("--once", action="store_true", help="end when what is there has been taken in")
    arguments = parser.parse_args(argv)
    start_logging(logging.WARNING)
    logging.getLogger("recsys_spark").setLevel(logging.INFO)
    started = time.monotonic()
    try:
        config = load_config(arguments.config, arguments.overrides)
        from recsys_spark.streaming.running import run_stream  # late: Spark and torch take seconds

        report = run_stream(config, once=arguments.once)
    except (UserError, StoreError) as error:
        print(covered(f"{JOB}: {error}"), file=sys.stderr)
        print_line(JOB, "failed", started, Report("", {}, {}, {"error": str(error)}))
        return BAD_INPUT if isinstance(error, UserError) else FAULT
    except Exception as error:
        print_stack()
        print_line(JOB, "failed", started, Report("", {}, {}, {"error": f"{type(error).__name__}: see the log"}))
        return FAULT
    print_line(JOB, "done", started, report)
    return DONE
