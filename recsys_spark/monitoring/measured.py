"""The table `monitoring`: a file for each day that was monitored; doing a day again replaces its file and no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.events.layout import carry
from recsys_spark.monitoring.finding import Finding, Measure
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.schemas import TABLES

STAGE, TABLE = "monitor", "monitoring"
SCHEMA = TABLES[TABLE].arrow_schema


def read_findings(commit: Commit | None, first: date = date.min, last: date = date.max) -> list[Finding]:
    """Findings of the days from `first` to `last`, both included, in the order of (day, kind, subject).

    Only the files of these days are opened; the driver holds what they have, some hundred rows a day. A measure's
    `detail` is not kept. None: no findings.
    """
    if commit is None:
        return []
    files = {date.fromisoformat(path.stem): path for path in commit.path(TABLE).glob("*.parquet")}
    wanted = [files[day] for day in sorted(files) if first <= day <= last]
    return [_finding(row) for path in wanted for row in pq.read_table(path, schema=SCHEMA).to_pylist()]


def write_day(previous: Commit | None, target: Path, day: date, findings: Iterable[Finding], run_id: str) -> None:
    """Put the rows of a day beside those of the other days into the existing directory `target`.

    Files of other days are linked, not copied. A day without a measure has a file without rows.
    """
    if previous is not None:
        carry(previous.path(TABLE), target, leave={day.isoformat()})
    rows = [_row(finding, run_id) for finding in findings]
    assert all(row["day"] == day for row in rows), "a run measures one day"
    rows.sort(key=lambda row: (row["kind"], row["subject"]))
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), target / f"{day.isoformat()}.parquet")


def _row(finding: Finding, run_id: str) -> dict[str, Any]:
    measure = finding.measure
    return {
        "day": measure.day,
        "kind": measure.key,
        "subject": measure.subject,
        "value": measure.value,
        "reference": measure.reference,
        "rows": measure.rows,
        "status": finding.status,
        "sentence": finding.sentence,
        "run_id": run_id,
    }


def _finding(row: Mapping[str, Any]) -> Finding:
    group, _, name = row["kind"].partition(".")
    measure = Measure(
        day=row["day"],
        group=group,
        name=name,
        subject=row["subject"],
        value=row["value"],
        reference=row["reference"],
        rows=row["rows"],
    )
    return Finding(measure, row["status"], row["sentence"])
