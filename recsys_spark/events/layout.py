"""How clean events lie on disk: files by day and user bucket, so that a grouping by user needs no shuffle.

A table directory holds `<day>.bucket-<bbbb>.parquet`, `<day>` an event date, or `all` where a run cleans everything at
once. Bucket b holds every event of its users, and rows of a file are sorted by (user_id, event_time, source_file,
source_order). A bucket's files in day order are therefore the whole histories of its users.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq

ALL_DAYS = "all"
EPOCH = date(1970, 1, 1)
DAY_MICROS = 86_400_000_000
NAME = re.compile(r"(?P<label>all|\d{4}-\d{2}-\d{2})\.bucket-(?P<bucket>\d{4,})\.parquet")
BUCKET_BYTES = 64 << 20
"""Bytes of plain text, about a million rows, for which one more bucket is made."""
TEXT_BYTES = {"parquet": 4, "package": 4, "csv": 1, "json": 1}
"""Bytes of text that a byte of a file of each format stands for, roughly; gz counts as Parquet does."""


def day_name(days: int) -> str:
    """The date of so many days since 1970, as files are named by it."""
    return (EPOCH + timedelta(days=days)).isoformat()


def file_name(label: str, bucket: int) -> str:
    """The name of the file of a day (or ALL_DAYS) and bucket."""
    return f"{label}.bucket-{bucket:04d}.parquet"


def bucket_files(directory: Path) -> list[list[str]]:
    """The files of each bucket that has any, in day order: absolute paths, at most days x buckets of them."""
    buckets: dict[int, list[str]] = {}
    for path in sorted(directory.iterdir()):
        found = NAME.fullmatch(path.name)
        if found:
            buckets.setdefault(int(found["bucket"]), []).append(str(path.absolute()))
    return [buckets[number] for number in sorted(buckets)]


def bucket_count(text_bytes: int, slots: int) -> int:
    """Buckets for so many bytes of text: a million rows each, and two for each task slot at least."""
    return max(2 * slots, -(-text_bytes // BUCKET_BYTES))


def carry(before: Path, now: Path, leave: Collection[str]) -> None:
    """Link the files of one table's version into the next, but for those of the labels in `leave`.

    A label is what stands before the first dot of a name: an event date or `arrival-<date>`.
    """
    for path in sorted(before.glob("*.parquet")):
        label = path.name.partition(".")[0]
        if label not in leave and label != "empty":
            os.link(path, now / path.name)


def time_span(directory: Path) -> tuple[int, int] | None:
    """First and last event_time (microseconds since 1970) of a table, from its files' footers; None where it is empty.

    Files are named by day, so that only those of the first and the last day are opened.
    """
    names = sorted(path.name for path in directory.glob("*.bucket-*.parquet"))
    if not names:
        return None
    labels = [name.partition(".")[0] for name in names]
    ends = [name for name, label in zip(names, labels, strict=True) if label in (labels[0], labels[-1])]
    firsts, lasts = [], []
    for name in ends:
        footer = pq.read_metadata(directory / name)
        place = footer.schema.names.index("event_time")
        for group in range(footer.num_row_groups):
            statistics = footer.row_group(group).column(place).statistics
            firsts.append(statistics.min_raw)
            lasts.append(statistics.max_raw)
    return min(firsts), max(lasts)
