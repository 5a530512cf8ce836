"""What is counted of items in a fit's events, and the codes of their categories, brands and prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.datasets.split import TEST, TRAIN
from recsys_spark.events.catalogue import DESCRIBED
from recsys_spark.features.text import normalise

Batches = Iterable[pa.RecordBatch]
Folds = Mapping[str, Sequence[int]]
COUNTS = ["item_index", "fold", "events", "users", "first"]


@dataclass(frozen=True)
class Codes:
    """Numbers of the categories or brands of a fit's items: 1 for that of most items, 0 for unknown ones."""

    values: tuple[str, ...]
    """Normalised; the value at place p has the code p + 1."""

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Value to code."""
        return {value: place + 1 for place, value in enumerate(self.values)}

    def of(self, values: Iterable[str | None]) -> npt.NDArray[np.int32]:
        """The code of each value; 0 where there is none, or it was not among the fit's, or is beyond the cap."""
        numbers = self.numbers
        return np.array([numbers.get(normalise(value), 0) if value else 0 for value in values], dtype=np.int32)


def price_bands(prices: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Band 1 below the first edge, 2 from it on, and so forth; 0 for what is no price (NaN, or not above 0)."""
    known = prices > 0
    return np.where(known, np.searchsorted(edges, np.where(known, prices, 0), side="right") + 1, 0).astype(np.int32)


def item_counts(histories: DataFrame, folds: Folds) -> DataFrame:
    """One row an item: item_index, and for each fit `events_`, `users_` and `first_` (epoch seconds) in its folds."""
    partial = histories.mapInArrow(_count_items, "item_index int, fold int, events bigint, users bigint, first bigint")
    sums = []
    for fit, own in folds.items():
        inside = F.col("fold").isin(list(own))
        sums += [F.sum(F.when(inside, F.col(name)).otherwise(0)).alias(f"{name}_{fit}") for name in ("events", "users")]
        sums.append(F.min(F.when(inside, F.col("first"))).alias(f"first_{fit}"))
    return partial.groupBy("item_index").agg(*sums)


def _count_items(batches: Batches) -> Batches:
    """Counts by item and fold; a user counts once, in the first fold in which he meets the item."""
    for batch in FlatHistories.chunks(batches):
        flat = FlatHistories.from_batch(batch)
        if not len(flat.items):
            continue
        rows = flat.rows
        order = np.lexsort((flat.folds, flat.items, rows))
        met = np.zeros(len(rows), dtype=np.int64)
        met[order] = np.r_[True, (np.diff(rows[order]) != 0) | (np.diff(flat.items[order]) != 0)]
        keys, place = np.unique(flat.items * (TEST + 1) + flat.folds, return_inverse=True)
        first = np.full(len(keys), np.iinfo(np.int64).max)
        np.minimum.at(first, place, flat.times)
        columns = [
            pa.array((keys // (TEST + 1)).astype(np.int32)),
            pa.array((keys % (TEST + 1)).astype(np.int32)),
            pa.array(np.bincount(place, minlength=len(keys))),
            pa.array(np.bincount(place, weights=met, minlength=len(keys)).astype(np.int64)),
            pa.array(first),
        ]
        yield pa.RecordBatch.from_arrays(columns, COUNTS)


def event_prices(events: DataFrame, as_of: datetime, starts: tuple[str, str] | None, folds: Folds) -> DataFrame:
    """One row an item: item_id and for each fit `event_price_`, the median price above 0 of its events in the folds.

    `starts` holds valid_start and test_start (ISO 8601); without them a user's last event is test and the one before it
    valid. The medians are exact: a task holds the different prices of an item.
    """
    known = events.where(F.col("event_time") < F.lit(as_of.isoformat(sep=" ")).cast("timestamp"))
    priced = known.select("item_id", "price", _fold(starts).alias("fold")).where(F.col("price") > 0)
    counted = priced.repartition("item_id").groupBy("item_id", "price", "fold").agg(F.count(F.lit(1)).alias("count"))
    medians = []
    for fit, own in folds.items():
        count = F.when(F.col("fold").isin(list(own)), F.col("count")).otherwise(0)
        medians.append(F.percentile("price", 0.5, count).alias(f"event_price_{fit}"))
    return counted.groupBy("item_id").agg(*medians)


def _fold(starts: tuple[str, str] | None) -> Column:
    if starts is not None:
        valid, test = (F.lit(start).cast("timestamp") for start in starts)
        return (F.col("event_time") >= valid).cast("int") + (F.col("event_time") >= test).cast("int")
    order = [F.col(name).desc() for name in ("event_time", "source_file", "source_order")]
    from_end = F.row_number().over(Window.partitionBy("user_id").orderBy(*order)) - 1
    return F.greatest(F.lit(TEST) - from_end, F.lit(TRAIN))


def described_items(items: DataFrame, counts: DataFrame, prices: DataFrame | None, fits: Sequence[str]) -> DataFrame:
    """Each item's text, and for each fit its `events_`, `users_`, `first_` and `price_`.

    The price is the catalogue's, else the median of the fit's events (`prices`), else null.
    """
    joined = items.join(counts, on="item_index", how="left")
    if prices is not None:
        joined = joined.join(prices, on="item_id", how="left")
    catalogued = F.when((F.col("price") > 0) & (F.col("price") < float("inf")), F.col("price"))
    columns: list[Column] = []
    for fit in fits:
        columns += [F.coalesce(f"{name}_{fit}", F.lit(0)).alias(f"{name}_{fit}") for name in ("events", "users")]
        columns.append(F.col(f"first_{fit}"))
        sold = [F.col(f"event_price_{fit}")] if prices is not None else []
        columns.append(F.coalesce(catalogued, *sold).alias(f"price_{fit}"))
    return joined.select("item_index", "item_id", *DESCRIBED, *columns)


def sizes_and_edges(items: DataFrame, fits: Sequence[str], bands: int) -> dict[str, tuple[int, list[float]]]:
    """For each fit the number of its items, and the prices that divide them into bands: quantiles, each once.

    One task holds the different prices of all items.
    """
    shares = [band / bands for band in range(1, bands)]
    asked = []
    for fit in fits:
        own = F.col(f"events_{fit}") > 0
        asked.append(F.count(F.when(own, 1)).alias(f"size_{fit}"))
        if shares:
            asked.append(F.percentile(F.when(own, F.col(f"price_{fit}")), shares).alias(f"edges_{fit}"))
    row = items.agg(*asked).collect()[0].asDict()
    return {fit: (row[f"size_{fit}"], sorted(set(row.get(f"edges_{fit}") or []))) for fit in fits}
