"""How many days usually lie between two purchases of an item, counted over all users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.recommenders.histories import SECONDS_A_DAY

MOST_DAYS = 1 << 16


def item_intervals(
    histories: DataFrame, folds: Sequence[int], purchase_types: Sequence[int], min_gaps: int
) -> DataFrame:
    """`item_index int, days double, gaps bigint`: the median over all users' gaps, of items with at least `min_gaps`.

    A gap lies between two neighbouring days (UTC) on which a user bought the item, in the given folds; `purchase_types`
    are codes of event types. The median is exact: a task holds the different gaps of an item.
    """

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in FlatHistories.chunks(batches):
            yield _gaps(FlatHistories.from_batch(batch), folds, purchase_types)

    counted = histories.mapInArrow(count, "item_index int, days int, gaps bigint")
    summed = counted.groupBy("item_index", "days").agg(F.sum("gaps").alias("gaps"))
    medians = summed.groupBy("item_index").agg(
        F.percentile("days", 0.5, F.col("gaps")).alias("days"), F.sum("gaps").alias("gaps")
    )
    return medians.where(F.col("gaps") >= min_gaps)


def _gaps(flat: FlatHistories, folds: Sequence[int], purchase_types: Sequence[int]) -> pa.RecordBatch:
    own = np.isin(flat.folds, folds) & np.isin(flat.event_types, purchase_types)
    days = (flat.times[own] // int(SECONDS_A_DAY)).astype(np.int64)
    bought = np.unique(np.stack([flat.rows[own], flat.items[own], days], axis=1), axis=0)
    same = (np.diff(bought[:, 0]) == 0) & (np.diff(bought[:, 1]) == 0)
    gaps = np.minimum(np.diff(bought[:, 2])[same], MOST_DAYS - 1)
    keys, counts = np.unique(bought[1:, 1][same] * MOST_DAYS + gaps, return_counts=True)
    return pa.RecordBatch.from_arrays(
        [
            pa.array((keys // MOST_DAYS).astype(np.int32)),
            pa.array((keys % MOST_DAYS).astype(np.int32)),
            pa.array(counts.astype(np.int64)),
        ],
        names=["item_index", "days", "gaps"],
    )
