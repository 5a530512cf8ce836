"""Counting clean rows, duplicates and rejects into rows that add up over user buckets."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.quality import NULLABLE
from recsys_spark.events.types import EVENT_TYPES

COUNTS = "day date, name string, value double"
"""What is counted of a bucket, as DDL. `day` is the event's date, null where the count is of the whole bucket.

Names of a day: `clean`, `users`, `type:<event type>`, `null:<column>`, `delay:<days>`, `exact_duplicates`,
`near_duplicates`; of the whole: `users`, `hour:<0..23>`, `unknown_type:<value>`. Counts of nothing have no row.
"""
SCHEMA = pa.schema([("day", pa.date32()), ("name", pa.string()), ("value", pa.float64())])
"""COUNTS as an Arrow schema."""
EARLY, MAX_DELAY = -1, 31
"""Bounds of the delays told apart: -1 is every arrival before the event's day, 31 is 31 days and more."""
UNKNOWN_TYPES, UNKNOWN_LENGTH = 20, 80
"""Values outside EVENT_TYPES that a bucket names (the most frequent), and the characters of each."""

Ints = NDArray[np.int64]
Days: TypeAlias = Any
"""Dates: an Arrow array of date32, or a numpy array of datetime64, of dates or of whole days since 1970."""


class _Tally:
    """Rows of COUNTS in the making."""

    def __init__(self) -> None:
        self.days: list[Ints] = []
        self.names: list[str] = []
        self.values: list[Ints] = []
        self.whole: dict[str, int] = {}

    def by_day(self, name: str, days: Ints) -> None:
        """Count one for each entry of `days`."""
        if not days.size:
            return
        first = int(days.min())
        counts = np.bincount(days - first)
        met = np.flatnonzero(counts)
        self.days.append(met + first)
        self.names += [name] * met.size
        self.values.append(counts[met])

    def batch(self) -> pa.RecordBatch:
        """All that was counted: the days' rows, then the whole bucket's."""
        whole = {name: count for name, count in self.whole.items() if count}
        days = np.concatenate([*self.days, np.zeros(len(whole), np.int64)])
        values = np.concatenate([*self.values, np.fromiter(whole.values(), np.int64, len(whole))])
        of_no_day = np.arange(days.size) >= days.size - len(whole)
        return pa.RecordBatch.from_arrays(
            [
                pa.array(days.astype(np.int32), pa.int32(), mask=of_no_day).cast(pa.date32()),
                pa.array([*self.names, *whole], pa.string()),
                pa.array(values.astype(np.float64)),
            ],
            schema=SCHEMA,
        )


def bucket_counts(
    table: pa.Table, exact_duplicates: Days | None = None, near_duplicates: Days | None = None
) -> pa.RecordBatch:
    """The counts of one bucket, in the columns of COUNTS.

    `table` holds the clean rows of the bucket: user_id, event_type, event_time, event_date, quantity, price, order_id
    and, where delays are wanted, arrival_date. A bucket holds all rows of its users, so counts of distinct users add up
    over buckets. The other arguments are the event dates of the copies and near copies that were dropped.
    """
    tally = _Tally()
    for name, dropped in (("exact_duplicates", exact_duplicates), ("near_duplicates", near_duplicates)):
        if dropped is not None:
            tally.by_day(name, _days(dropped)[0])
    if table.num_rows:
        days, valid = _days(table["event_date"])
        assert valid is None, "a clean row has a date"
        tally.by_day("clean", days)
        _count_types(tally, table["event_type"], days)
        _count_users(tally, table["user_id"], days)
        for name in NULLABLE:
            tally.by_day(f"null:{name}", days[_numpy(pc.is_null(table[name]))])
        if "arrival_date" in table.column_names:
            _count_delays(tally, table["arrival_date"], days)
        times = table["event_time"]
        hours = _numpy(times.cast(pa.timestamp("us", times.type.tz), safe=False).cast(pa.int64()))
        by_hour = np.bincount(hours // 3_600_000_000 % 24, minlength=24)
        tally.whole.update({f"hour:{hour}": int(count) for hour, count in enumerate(by_hour)})
    return tally.batch()


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.to_numpy())


def _days(dates: Days) -> tuple[Ints, NDArray[np.bool_] | None]:
    """Days since 1970 of the dates that are not null, and which those are: None where all are."""
    if isinstance(dates, (pa.Array, pa.ChunkedArray)):
        valid = None if not dates.null_count else np.asarray(dates.is_valid())
        return np.asarray(dates.drop_null().cast(pa.int32())).astype(np.int64), valid
    if dates.dtype.kind == "O":
        dates = dates.astype("datetime64[D]")
    if dates.dtype.kind == "M":
        valid = None if not np.isnat(dates).any() else ~np.isnat(dates)
        known = dates if valid is None else dates[valid]
        return known.astype("datetime64[D]").astype(np.int64), valid
    return dates.astype(np.int64), None


def _count_types(tally: _Tally, column: pa.ChunkedArray, days: Ints) -> None:
    """`type:` by day, what is not in EVENT_TYPES as other, and by name the unknown values that are met most."""
    # One dictionary for all chunks; a column that comes encoded may hold a value twice in it.
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    places = np.asarray(encoded.indices.fill_null(len(values)))
    known = {name: code for code, name in enumerate(EVENT_TYPES)}
    other = known["other"]
    codes = np.array([*(known.get(value, other) for value in values), other], np.int8)[places]
    for name, code in known.items():
        tally.by_day(f"type:{name}", days[codes == code])
    met = np.bincount(places, minlength=len(values))
    unknown = sorted((-int(met[place]), value) for place, value in enumerate(values) if value not in known)
    for count, value in unknown[:UNKNOWN_TYPES]:
        name = f"unknown_type:{value[:UNKNOWN_LENGTH]}"
        tally.whole[name] = tally.whole.get(name, 0) - count


def _count_users(tally: _Tally, column: pa.ChunkedArray, days: Ints) -> None:
    """Distinct users by day and of the bucket: quick where rows are sorted by (user, time), right in any order."""
    users = column.cast(pa.string()).combine_chunks()
    new_user = np.ones(days.size, np.bool_)
    new_user[1:] = np.asarray(pc.not_equal(users[1:], users[:-1]))
    # A run of rows of one user is encoded once; a user whose rows do not stand together has the same code in each run.
    codes_of_runs = np.asarray(users.filter(pa.array(new_user)).dictionary_encode().indices).astype(np.int64)
    changes = new_user.copy()
    changes[1:] |= days[1:] != days[:-1]
    codes = codes_of_runs[np.cumsum(new_user)[changes] - 1]
    first = int(days.min())
    span = int(days.max()) - first + 1
    tally.by_day("users", np.unique(codes * span + (days[changes] - first)) % span + first)
    tally.whole["users"] = int(codes_of_runs.max()) + 1


def _count_delays(tally: _Tally, column: pa.ChunkedArray, days: Ints) -> None:
    """`delay:` by event day: whole days between the event's date and the arrival's."""
    arrivals, valid = _days(column)
    events = days if valid is None else days[valid]
    delays = np.clip(arrivals - events, EARLY, MAX_DELAY)
    for delay in np.unique(delays):
        tally.by_day(f"delay:{delay}", events[delays == delay])


def summed(counts: DataFrame) -> DataFrame:
    """The counts of all buckets: one row a (day, name)."""
    return counts.groupBy("day", "name").agg(F.sum("value").alias("value")).select("day", "name", "value")


def rejects_by_reason_and_day(quarantine: DataFrame) -> DataFrame:
    """Quarantined rows as (day date, reason string, count bigint): `day` is the arrival's, null where it is not known.

    A row counts once under each of its reasons, and once under the reason null: those counts add up to the rows.
    """
    no_reason = F.array(F.lit(None).cast("string"))
    reasons = F.concat(no_reason, F.array_distinct(F.coalesce("reasons", F.array().cast("array<string>"))))
    return (
        quarantine.select(F.col("arrival_date").alias("day"), F.explode(reasons).alias("reason"))
        .groupBy("day", "reason")
        .agg(F.count(F.lit(1)).alias("count"))
        .select("day", "reason", "count")
    )
