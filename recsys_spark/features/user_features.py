"""Features of users at a moment: activity, recency, price level, category mix and given demographics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sources import Demographics
from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.events.columns import plain_text
from recsys_spark.events.rows import CORRUPT, FILE, ORDER, find_column, own_columns, quoted
from recsys_spark.events.sources import read_source

A_DAY = 86_400
USER_COLUMNS = (
    "user_index int, user_id string, events bigint, active_days int, target_events bigint, recency_days float, "
    "tenure_days float, mean_gap_days float, price_level float, categories array<int>, category_shares array<float>"
)
USER_NAMES = [column.split()[0] for column in USER_COLUMNS.split(", ")]
Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ItemCodes:
    """Codes of all items by item_index, 0 where unknown."""

    categories: Int32s
    """[I]."""
    price_bands: Int32s
    """[I]."""


@lru_cache(maxsize=8)
def item_codes(item_features: str, fit: str) -> ItemCodes:
    """A fit's codes out of the table item_features: item-sized, held once by a Python worker (paths are not reused)."""
    columns = ["item_index", "category_code", "price_band"]
    table = ds.dataset(item_features, format="parquet").to_table(columns=columns, filter=ds.field("fit") == fit)
    index = table["item_index"].to_numpy()
    codes = np.zeros((2, int(index.max(initial=0)) + 1), dtype=np.int32)
    for row, name in enumerate(columns[1:]):
        codes[row, index] = table[name].to_numpy()
    return ItemCodes(*codes)


def user_rows(
    ids: pa.Array, flat: FlatHistories, cut: int, codes: ItemCodes, targets: Sequence[int], top: int
) -> pa.RecordBatch:
    """USER_COLUMNS of a batch of users, from their events before the cut (epoch seconds).

    A user without events has counts of 0, and null where there is nothing to measure. recency_days and tenure_days are
    the days from the last and the first event to the cut; mean_gap_days those between two active days;
    price_level is the mean price band of the items of target events; shares are parts of the events' weight in
    known categories, of which the `top` largest are named, ties to the smaller code.
    """
    users, rows, events = len(flat.users), flat.rows, flat.lengths
    some = np.flatnonzero(events)
    first, last = np.zeros(users, dtype=np.int64), np.zeros(users, dtype=np.int64)
    first[some], last[some] = flat.times[flat.offsets[some]], flat.times[flat.offsets[some + 1] - 1]
    days = flat.times // A_DAY
    new_day = np.ones(len(days), dtype=np.bool_)
    new_day[1:] = (np.diff(days) != 0) | (np.diff(rows) != 0)
    active = np.bincount(rows[new_day], minlength=users)
    target = np.isin(flat.event_types, targets)
    known = flat.items < len(codes.categories)
    band = np.where(known, codes.price_bands[np.where(known, flat.items, 0)], 0)
    category = np.where(known, codes.categories[np.where(known, flat.items, 0)], 0)
    priced = target & (band > 0)
    bought = np.bincount(rows[priced], minlength=users)
    level = np.bincount(rows[priced], weights=band[priced], minlength=users)
    columns = [
        pa.array(flat.users.astype(np.int32)),
        ids,
        pa.array(events),
        pa.array(active.astype(np.int32)),
        pa.array(np.bincount(rows[target], minlength=users)),
        _quotient(cut - last, np.where(events > 0, A_DAY, 0)),
        _quotient(cut - first, np.where(events > 0, A_DAY, 0)),
        _quotient(last // A_DAY - first // A_DAY, np.maximum(active - 1, 0)),
        _quotient(level, bought),
        *_category_mix(rows, category, flat.weights, users, top),
    ]
    return pa.RecordBatch.from_arrays(columns, USER_NAMES)


def _quotient(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> pa.Array:
    """The quotients as 32-bit floats, null where the denominator is 0."""
    none = denominator == 0
    return pa.array((numerator / np.where(none, 1, denominator)).astype(np.float32), mask=none)


def _category_mix(
    rows: npt.NDArray[np.int64], category: Int32s, weights: npt.NDArray[np.float32], users: int, top: int
) -> tuple[pa.Array, pa.Array]:
    counted = (category > 0) & (weights > 0)
    width = int(category.max(initial=0)) + 1
    keys, place = np.unique(rows[counted] * width + category[counted], return_inverse=True)
    mass = np.bincount(place, weights=weights[counted], minlength=len(keys))
    user, code = keys // width, keys % width
    share = mass / np.bincount(user, weights=mass, minlength=users)[user]
    order = np.lexsort((code, -share, user))
    starts = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=users))])
    kept = order[np.arange(len(order)) - starts[user] < top]
    ends = np.concatenate([[0], np.cumsum(np.bincount(user[kept], minlength=users))])
    offsets = pa.array(ends, pa.int32())
    lists = (pa.array(code[kept], pa.int32()), pa.array(share[kept], pa.float32()))
    return pa.ListArray.from_arrays(offsets, lists[0]), pa.ListArray.from_arrays(offsets, lists[1])


def read_demographics(spark: SparkSession, demographics: Demographics | None) -> DataFrame | None:
    """One row a user: user_id, attributes map<string,string> of the mapped columns that say something.

    Of several rows of a user the first by (file, order) counts; rows that do not fit the format or have no user_id are
    left out.
    """
    if demographics is None:
        return None
    raw: Any = read_source(spark, demographics, key="demographics")
    frame: DataFrame = raw if isinstance(raw, DataFrame) else raw.frame
    if CORRUPT in frame.columns:
        frame = frame.where(F.col(CORRUPT).isNull())
    types = {field.name: field.dataType for field in frame.schema}
    available = own_columns(frame)
    columns: Mapping[str, str] = {
        name: found for name, wanted in demographics.columns.items() if (found := find_column(available, wanted))
    }
    texts = {name: plain_text(quoted(column), types[column]) for name, column in columns.items()}
    entries = [item for name, text in texts.items() if name != "user_id" for item in (F.lit(name), text)]
    attributes = F.create_map(*entries) if entries else F.lit(None).cast("map<string,string>")
    rows = frame.select(
        texts["user_id"].alias("user_id"),
        F.map_filter(attributes, lambda _, value: value.isNotNull()).alias("attributes"),
        F.struct(FILE, ORDER).alias("place"),
    ).where(F.col("user_id").isNotNull())
    return rows.groupBy("user_id").agg(F.min_by("attributes", "place").alias("attributes"))


def with_attributes(users: DataFrame, demographics: DataFrame | None) -> DataFrame:
    """The users with what is given of them, null where nothing is."""
    if demographics is None:
        return users.withColumn("attributes", F.lit(None).cast("map<string,string>"))
    return users.join(demographics, on="user_id", how="left")
