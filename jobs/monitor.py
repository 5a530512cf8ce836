"""jobs/monitor.py: see `--help`."""

import sys

from recsys_spark.pipeline.command import main

if __name__ == "__main__":
    sys.exit(main("monitor"))
