"""What happens to the rows of one bucket of users: sorted, copies dropped, judged as groups, counted, written by day.

Everything here is Arrow and numpy on the rows of one bucket, within one task: a bucket is bounded (see
`layout.bucket_count`), and it holds every row of its users, so that nothing else has to be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.events.layout import ALL_DAYS, DAY_MICROS, EPOCH, day_name, file_name
from recsys_spark.events.report.counts import bucket_counts
from recsys_spark.events.rows import FILE, HASH, ORDER
from recsys_spark.events.rules.bucket_rows import Bucket, type_codes
from recsys_spark.events.rules.groups import group_rules
from recsys_spark.tables.files import new_file

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
ARRIVED = "arrival_date"
REJECTED = pa.schema(
    [
        (FILE, pa.string()),
        (ORDER, pa.int64()),
        (HASH, pa.int64()),
        ("group_reasons", pa.list_(pa.field("element", pa.string()))),
    ]
)
"""Rows that a group rule rejects: which, and why. Their text is read from the source again."""
CODED = ("user_id", "item_id", "event_type", FILE)
"""Columns of few distinct values, held and written by dictionary."""


@dataclass(frozen=True)
class Writing:
    """What the tasks are told."""

    clean: str
    """Directory of clean_events."""
    rejected: str
    """Directory of the rows that group rules reject."""
    items: str
    """Directory of the item ids that each bucket met."""
    days: tuple[date, ...] | None
    """The event days that are written, a file each; None: all of them, in one file."""
    cleaning: Cleaning

    def rows_of_days(self, batch: pa.RecordBatch) -> int:
        """The good rows that are of the days to be written."""
        if self.days is None:
            return int(batch.num_rows)
        times = batch.column("event_time").cast(pa.int64()).to_numpy()
        return int(np.isin(times // DAY_MICROS, [(day - EPOCH).days for day in self.days]).sum())


@dataclass(frozen=True)
class Rows:
    """N rows of a bucket: the table, and its columns as numbers."""

    table: pa.Table
    """The columns of clean_events before `event_date`, FILE, ORDER and HASH; those of CODED as dictionaries."""
    codes: Mapping[str, Ints]
    """[N] of each column of CODED, the rank of the value among the bucket's values."""
    types: Ints
    """[N] codes of event types, as group rules know them."""
    times: Ints
    """[N] microseconds since 1970."""
    arrivals: npt.NDArray[np.int32]
    """[N] days since 1970."""

    @classmethod
    def of(cls, table: pa.Table) -> Rows:
        """From the rows as Spark sends them."""
        codes, columns = {}, {name: table.column(name).combine_chunks() for name in table.column_names}
        for name in CODED:
            columns[name], codes[name] = _ranked(columns[name])
        types = type_codes(columns["event_type"].dictionary.to_pylist())[codes["event_type"]]
        times = columns["event_time"].cast(pa.int64()).to_numpy()
        if ARRIVED in columns:
            arrivals = columns.pop(ARRIVED).cast(pa.int32()).to_numpy()
        else:
            arrivals = (times // DAY_MICROS).astype(np.int32)
        return cls(pa.table(columns), codes, types, times, arrivals)

    @property
    def days(self) -> npt.NDArray[np.int32]:
        """[N] event date, days since 1970."""
        return (self.times // DAY_MICROS).astype(np.int32)

    def take(self, places: Ints) -> Rows:
        """These rows, in this order."""
        return Rows(
            self.table.take(pa.array(places)),
            {name: codes[places] for name, codes in self.codes.items()},
            self.types[places],
            self.times[places],
            self.arrivals[places],
        )

    def first_copies(self) -> tuple[Ints, Ints]:
        """The rows in order (user, time, file, order) without exact copies, and the copies.

        Copies are rows of one user and moment whose 64-bit hashes of the whole source row are equal; the one that
        arrived first stays, of those the one with the smallest (file, order).
        """
        users, files = self.codes["user_id"], self.codes[FILE]
        place, hashes = self.table.column(ORDER).to_numpy(), self.table.column(HASH).to_numpy()
        order = np.lexsort((place, files, self.times, users))
        same = (np.diff(users[order]) == 0) & (np.diff(self.times[order]) == 0)
        tied = order[np.r_[False, same] | np.r_[same, False]]
        keys = (place, files, self.arrivals, hashes, self.times, users)
        tied = tied[np.lexsort(tuple(key[tied] for key in keys))]
        equal = [np.diff(key[tied]) == 0 for key in (hashes, self.times, users)]
        copies = tied[1:][equal[0] & equal[1] & equal[2]]
        stays = np.ones(len(users), dtype=bool)
        stays[copies] = False
        return order[stays[order]], copies

    def as_bucket(self) -> Bucket:
        """What group rules look at."""
        return Bucket(
            users=self.codes["user_id"],
            items=self.codes["item_id"],
            event_types=self.types,
            times=self.times,
            days=self.days,
            arrivals=self.arrivals,
            quantity=self.table.column("quantity").to_numpy(),
            price=self.table.column("price").to_numpy(),
        )

    def clean_table(self, quantity: npt.NDArray[np.float64]) -> pa.Table:
        """The columns of clean_events in their order."""
        columns = self.table.select(["user_id", "item_id", "event_type", "event_time"])
        columns = columns.append_column("quantity", pa.array(quantity, mask=np.isnan(quantity)))
        for name, column in (
            ("price", self.table.column("price")),
            ("order_id", self.table.column("order_id")),
            ("source_file", self.table.column(FILE)),
            ("event_date", pa.array(self.days).cast(pa.date32())),
            ("source_order", self.table.column(ORDER)),
            (ARRIVED, pa.array(self.arrivals).cast(pa.date32())),
        ):
            columns = columns.append_column(name, column)
        return columns

    def rejected_table(self, reasons: Mapping[str, Mask], rows: Mask) -> pa.Table:
        """The place of these rows with the names of the reasons that hold."""
        places = np.flatnonzero(rows)
        bits = sum((mask[places].astype(np.int64) << bit for bit, mask in enumerate(reasons.values())), np.int64(0))
        met, which = np.unique(bits, return_inverse=True)
        lists = [[name for bit, name in enumerate(reasons) if int(value) >> bit & 1] for value in met]
        named = pa.array(lists, REJECTED.field("group_reasons").type).take(pa.array(which))
        where = self.table.select([FILE, ORDER, HASH]).take(pa.array(places))
        return where.append_column("group_reasons", named).cast(REJECTED)


def clean_bucket(batches: Iterable[pa.RecordBatch], number: int, writing: Writing) -> Iterator[pa.RecordBatch]:
    """Write the files of bucket `number`; yields its counts (see events.report.counts).

    A row arrived on the day of its event where the batches have no arrival_date. Rows of other days than those of
    `writing` are looked at by group rules, but neither written nor counted. A task that runs twice replaces its files
    by equal ones.
    """
    some = [batch for batch in batches if batch.num_rows]
    if not some:
        return
    everything = Rows.of(pa.Table.from_batches(some))
    del some
    order, copies = everything.first_copies()
    copied_days = everything.days[copies]
    rows = everything.take(order)
    del everything
    verdict = group_rules(rows.as_bucket(), writing.cleaning)
    rejected = np.zeros(len(rows.times), dtype=bool)
    for mask in verdict.reasons.values():
        rejected |= mask
    near = verdict.near_duplicates & ~rejected
    clean = rows.clean_table(verdict.quantity)
    days, stays = rows.days, ~rejected & ~near
    if writing.days is None:
        clean = clean if stays.all() else clean.filter(pa.array(stays))
        _write(clean, Path(writing.clean) / file_name(ALL_DAYS, number))
    else:
        wanted = [(day - EPOCH).days for day in writing.days]
        stays, near, rejected = (mask & np.isin(days, wanted) for mask in (stays, near, rejected))
        copied_days = copied_days[np.isin(copied_days, wanted)]
        for day in np.unique(days[stays]).tolist():
            path = Path(writing.clean) / file_name(day_name(day), number)
            _write(clean.filter(pa.array(stays & (days == day))), path)
        clean = clean.filter(pa.array(stays))
    if clean.num_rows:
        met = pa.table({"item_id": clean.column("item_id").unique().dictionary_decode()})
        _write(met, Path(writing.items) / f"{number:04d}.parquet")
    if rejected.any():
        _write(rows.rejected_table(verdict.reasons, rejected), Path(writing.rejected) / f"{number:04d}.parquet")
    yield bucket_counts(clean, copied_days, days[near])


def _ranked(column: pa.Array) -> tuple[pa.DictionaryArray, Ints]:
    """The column by a sorted dictionary, and its codes."""
    coded = column.dictionary_encode()
    order = pc.sort_indices(coded.dictionary).to_numpy()
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    codes = ranks[coded.indices.to_numpy()]
    return pa.DictionaryArray.from_arrays(pa.array(codes), coded.dictionary.take(pa.array(order))), codes.astype(
        np.int64
    )


def _write(table: pa.Table, path: Path) -> None:
    """Write one file; without Arrow's own schema in it, so that every reader sees plain strings."""
    if not table.num_rows:
        return
    with new_file(path) as place:
        pq.write_table(table, place, compression="zstd", store_schema=False, row_group_size=1 << 20)
