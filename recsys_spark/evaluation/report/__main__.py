"""`python -m recsys_spark.evaluation.report --config FILE`: the path of the newest report. No Spark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from recsys_spark.config import load_config
from recsys_spark.errors import UserError
from recsys_spark.evaluation.report.newest import newest_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the path; exit 2 with one line where there is no report."""
    parser = argparse.ArgumentParser(prog="python -m recsys_spark.evaluation.report", description=__doc__)
    parser.add_argument("--config", required=True, action="append", help="YAML file; may be given several times")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    parser.add_argument("--open-path", action="store_true", help="as a file:// address that a browser opens")
    options = parser.parse_args(arguments)
    try:
        path = newest_report(load_config(options.config, options.overrides))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(path.as_uri() if options.open_path else path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
