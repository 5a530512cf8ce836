"""jobs/build_datasets.py: see `--help`."""

import sys

from recsys_spark.pipeline.command import main

if __name__ == "__main__":
    sys.exit(main("build_datasets"))
