"""`python -m recsys_spark.monitoring.kinds`: every kind of measure with its default limits, as a table in Markdown.

With `--write FILE` the table between the marks in that page is replaced.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recsys_spark.monitoring.kinds import KINDS, Kind

BEGIN, END = "<!-- kinds: python -m recsys_spark.monitoring.kinds --write docs/monitoring.md -->", "<!-- end -->"
BEYOND = {"high": "above", "low": "below", "both": "times more or less than"}


def table() -> str:
    """The table, a row for each kind."""
    head = ["| kind | what | bad | warn | alert | judged from |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(_row(kind) for kind in KINDS.values())])


def replaced(page: str) -> str:
    """The page with the table between its marks. Raises ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(prog="python -m recsys_spark.monitoring.kinds", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page")
    page = parser.parse_args(arguments).write
    if page is None:
        print(table())
    else:
        page.write_text(replaced(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def _row(kind: Kind) -> str:
    limits = [_limit(kind.warn), _limit(kind.alert)]
    least = f"{kind.least_rows:,} rows" if kind.least_rows > 1 else ""
    bad = BEYOND[kind.bad] if kind.warn is not None or kind.alert is not None else ""
    return f"| `{kind.key}` | {kind.title} | {bad} | {limits[0]} | {limits[1]} | {least} |"


def _limit(limit: float | None) -> str:
    return "" if limit is None else f"{limit:g}"


if __name__ == "__main__":
    sys.exit(main())
