"""The columns of items that stacking reads, counted in one pass over the histories that a fit may see."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.datasets.vocabulary import vocabulary_codes
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fusion.item_columns import COUNTED, ItemColumns, from_counts
from recsys_spark.recommenders.histories import SECONDS_A_DAY
from recsys_spark.tables.location import spark_path

Batches = Iterable[pa.RecordBatch]
DAY = int(SECONDS_A_DAY)
DAYS = 1 << 20
NEVER = np.iinfo(np.int64).max
SCHEMA = "item_index int, " + ", ".join(f"{name} bigint" for name in (*COUNTED, "first", "last"))


def item_columns(counts: DataFrame, described: DataFrame, now: int, vocabulary: Path, scratch: Path) -> ItemColumns:
    """Columns of the vocabulary's items from the rows of `count_item_events`, whose `now` is given too.

    `described(item_index, price, category_code, brand_code)` is what the fit knows of items besides; `scratch` is a
    folder for what Spark joins, made and removed again. The driver holds some numbers an item.
    """
    counts.join(described, on="item_index", how="left").write.parquet(spark_path(scratch))
    codes = vocabulary_codes(str(vocabulary))
    size = int((codes >= 0).sum())
    whole = {name: np.zeros(size, dtype=np.int64) for name in (*COUNTED, "category_code", "brand_code")}
    real = {name: np.full(size, np.nan) for name in ("first", "last", "price")}
    for file in sorted(scratch.glob("part-*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches():
            index = batch.column("item_index").to_numpy()
            code = np.where(index < len(codes), codes[np.minimum(index, len(codes) - 1)], -1)
            for name, array in (*whole.items(), *real.items()):
                values = batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
                known = (code >= 0) & ~np.isnan(values)
                array[code[known]] = values[known]
    shutil.rmtree(scratch)
    return from_counts(
        {name: whole[name] for name in COUNTED},
        first_age=(now - real["first"]) / SECONDS_A_DAY,
        last_age=(now - real["last"]) / SECONDS_A_DAY,
        described={
            "price": real["price"],
            "category": whole["category_code"],
            "brand": whole["brand_code"],
            "title": shared_titles(vocabulary),
        },
    )


def shared_titles(vocabulary: Path) -> np.ndarray:
    """[I] int64: items of one title have one code, from 1; those whose title is theirs alone have 0."""
    titles = pq.read_table(vocabulary, columns=["title"], partitioning=None)["title"].combine_chunks()
    place = titles.dictionary_encode().indices.to_numpy()
    shared = np.bincount(place) > 1
    return np.where(shared, np.cumsum(shared), 0)[place].astype(np.int64)


def count_item_events(histories: DataFrame, folds: Sequence[int], now: int, target_events: Sequence[str]) -> DataFrame:
    """One row an item with an event in the folds before `now`: item_index, COUNTED, `first` (event), `last` (purchase).

    Purchases are the target events. `gap_days` are the days from a user's first to his last purchase day of the item,
    `gaps` the purchase days less one; `last` is null without a purchase.
    """
    wanted = [code for code, name in enumerate(EVENT_TYPES) if name in target_events]

    def count(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in FlatHistories.chunks(batches):
            flat = FlatHistories.from_batch(batch).in_folds(folds)
            yield _counted(flat.keep(flat.times < now), now, wanted)

    partial = histories.mapInArrow(count, SCHEMA)
    sums = [F.sum(name).alias(name) for name in COUNTED]
    return partial.groupBy("item_index").agg(*sums, F.min("first").alias("first"), F.max("last").alias("last"))


def _counted(flat: FlatHistories, now: int, wanted: Sequence[int]) -> pa.RecordBatch:
    """SCHEMA of a batch of histories."""
    index, place = np.unique(flat.items, return_inverse=True)
    first = np.full(len(index), NEVER)
    np.minimum.at(first, place, flat.times)
    bought = np.isin(flat.event_types, wanted)
    rows, items, times = flat.rows[bought], place[bought], flat.times[bought]
    last = np.full(len(index), -NEVER)
    np.maximum.at(last, items, times)
    days = np.minimum((now - times) // DAY, DAYS - 1)
    counts = {
        name: np.bincount(items[days < within], minlength=len(index))
        for name, within in zip(COUNTED[:4], (DAYS, 7, 30, 90), strict=True)
    }
    purchases = np.unique((rows * len(index) + items) * DAYS + days)
    pairs, starts, visits = np.unique(purchases // DAYS, return_index=True, return_counts=True)
    oldest = purchases[starts + visits - 1] % DAYS
    span = oldest - purchases[starts] % DAYS
    item = pairs % max(len(index), 1)
    sums = {"buyers": 1, "repeaters": visits > 1, "gaps": visits - 1, "gap_days": span}
    for name, values in (sums | {f"new_{days}": oldest < days for days in (14, 30, 60)}).items():
        weights = np.broadcast_to(np.asarray(values, dtype=np.float64), item.shape)
        counts[name] = np.bincount(item, weights, minlength=len(index)).astype(np.int64)
    columns = [pa.array(index.astype(np.int32)), *(pa.array(counts[name].astype(np.int64)) for name in COUNTED)]
    columns += [pa.array(first), pa.array(last, mask=last == -NEVER)]
    return pa.RecordBatch.from_arrays(columns, ["item_index", *COUNTED, "first", "last"])
