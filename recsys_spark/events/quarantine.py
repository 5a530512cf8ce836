"""Writing rows that cannot be used, from the tasks that meet them, one file a task and day."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_spark.events.layout import ALL_DAYS, DAY_MICROS, day_name
from recsys_spark.events.rows import BETWEEN, FILE, RAW, WHY
from recsys_spark.tables.files import new_file

QUARANTINE = pa.schema(
    [
        ("source_file", pa.string()),
        ("raw", pa.string()),
        ("reasons", pa.list_(pa.field("element", pa.string()))),
        ("run_id", pa.string()),
        ("arrival_date", pa.date32()),
    ]
)
ROWS_HELD = 20_000
"""Rows of a label that a task holds before it writes them."""


class QuarantineFiles:
    """The quarantined rows of one task, by label: the day whose recomputing writes them anew.

    That is the event's date where the row arrived in time for it, else `arrival-<date>`; one label where a run writes
    everything. Files appear under their names when the task is done, and a task that runs twice replaces them.
    """

    def __init__(self, directory: Path, name: str, run_id: str, late: int, ahead: int, daily: bool) -> None:
        self._directory, self._name, self._run_id = directory, name, run_id
        self._late, self._ahead, self._daily = late, ahead, daily
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._files = ExitStack()
        self._held: dict[str, list[pa.RecordBatch]] = {}

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows in: FILE, RAW, WHY, event_time, and in daily mode arrival_date."""
        if not rows.num_rows:
            return
        days = rows.column("event_time").cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False) // DAY_MICROS
        timed = rows.column("event_time").is_valid().to_numpy(zero_copy_only=False)
        if self._daily:
            arrival_date = rows.column("arrival_date")
            arrivals = arrival_date.cast(pa.int32()).to_numpy(zero_copy_only=False).astype(np.int64)
            labels = self._labels(days, timed, arrivals)
        else:
            arrival_date = pa.array(days.astype(np.int32), mask=~timed).cast(pa.date32())
            labels = np.full(len(days), ALL_DAYS, dtype=object)
        columns = [
            rows.column(FILE),
            rows.column(RAW),
            pc.split_pattern(rows.column(WHY), BETWEEN).cast(QUARANTINE.field("reasons").type),
            pa.array([self._run_id]).take(pa.array(np.zeros(rows.num_rows, dtype=np.int32))),
            arrival_date,
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=QUARANTINE)
        for label in np.unique(labels.astype(str)).tolist():
            held = self._held.setdefault(label, [])
            held.append(batch if (labels == label).all() else batch.filter(pa.array(labels == label)))
            if sum(part.num_rows for part in held) >= ROWS_HELD:
                self._flush(label)

    def close(self) -> None:
        """Write what is held, and give the files their names."""
        for label in list(self._held):
            self._flush(label)
        for writer in self._writers.values():
            writer.close()
        self._files.close()

    def _labels(
        self, days: npt.NDArray[np.int64], timed: npt.NDArray[np.bool_], arrivals: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.object_]:
        in_time = timed & (arrivals - days <= self._late) & (days - arrivals <= self._ahead)
        keys, places = np.unique(np.where(in_time, days, -1 - arrivals), return_inverse=True)
        names = [day_name(key) if key >= 0 else f"arrival-{day_name(-1 - key)}" for key in keys.tolist()]
        return np.array(names, dtype=object)[places]

    def _flush(self, label: str) -> None:
        held = self._held.pop(label, [])
        if not held:
            return
        if label not in self._writers:
            place = self._files.enter_context(new_file(self._directory / f"{label}.{self._name}.parquet"))
            self._writers[label] = pq.ParquetWriter(place, QUARANTINE, compression="zstd")
        self._writers[label].write_table(pa.Table.from_batches(held))


def split_bad(batch: pa.RecordBatch, columns: list[str]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The good rows with these columns alone, and the bad ones with all of theirs."""
    bad = batch.column("bad")
    good = batch.select(columns)
    if not pc.any(bad).as_py():
        return good, batch.slice(0, 0)
    return good.filter(pc.invert(bad)), batch.filter(bad)
