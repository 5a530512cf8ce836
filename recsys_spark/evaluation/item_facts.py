"""What is known of each item before the window that is measured: popularity, age, category, vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.datasets.flat import FlatHistories

A_DAY = 86_400
POPULARITY_STRATA = ("head", "mid", "tail")
ALL_USERS = -1
"""The row of the counts that tells how many users had a target event, in `target_users`."""
COUNTS = "item_index int, events bigint, target_events bigint, target_users bigint, first bigint"
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def counts_before(histories: DataFrame, fold: int, targets: Sequence[int]) -> DataFrame:
    """COUNTS of the items that have events before the fold, and the row ALL_USERS.

    `events` are of any type, `target_events` those of the types in `targets` (codes), `target_users` the users behind
    these, `first` the epoch second of the first event. Nothing of the fold or after it is read into them.
    """

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in FlatHistories.chunks(batches):
            yield _counts(FlatHistories.from_batch(batch), fold, targets)

    names = COUNTS.replace(" int,", ",").replace(" bigint", "").split(", ")
    partial = histories.mapInArrow(count, COUNTS)
    sums = [F.sum(name).alias(name) for name in names[1:4]]
    return partial.groupBy("item_index").agg(*sums, F.min("first").alias("first"))


def _counts(flat: FlatHistories, fold: int, targets: Sequence[int]) -> pa.RecordBatch:
    """COUNTS of a batch of histories."""
    before = flat.folds < fold
    items, rows, times = flat.items[before], flat.rows[before], flat.times[before]
    is_target = np.isin(flat.event_types[before], targets)
    index, place = np.unique(items, return_inverse=True)
    first = np.full(len(index), np.iinfo(np.int64).max)
    np.minimum.at(first, place, times)
    pairs = np.unique(np.stack([rows[is_target], place[is_target]]), axis=1)
    users = np.bincount(pairs[1], minlength=len(index))
    columns = [
        np.append(index, ALL_USERS).astype(np.int32),
        np.append(np.bincount(place, minlength=len(index)), 0),
        np.append(np.bincount(place[is_target], minlength=len(index)), 0),
        np.append(users, len(np.unique(pairs[0]))),
        np.append(first, np.iinfo(np.int64).max),
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(column.astype(np.int32 if place == 0 else np.int64)) for place, column in enumerate(columns)],
        names=["item_index", "events", "target_events", "target_users", "first"],
    )


def item_facts(items: DataFrame, counts: DataFrame, vectors: DataFrame | None) -> DataFrame:
    """One row an item, and the row ALL_USERS: COUNTS (0 and null where there is no event before), category, vector.

    `items(item_index, category)`, `vectors(item_index, vector array<float>)`. `load_facts` reads these rows.
    """
    described = items.select("item_index", "category").join(counts, on="item_index", how="full_outer")
    if vectors is None:
        described = described.withColumn("vector", F.lit(None).cast("array<float>"))
    else:
        described = described.join(vectors.select("item_index", "vector"), on="item_index", how="left")
    zeros = [F.coalesce(name, F.lit(0)).alias(name) for name in ("events", "target_events", "target_users")]
    return described.select("item_index", *zeros, "first", "category", "vector")


@dataclass(frozen=True)
class ItemFacts:
    """Facts by item_index, 0 to I-1; item-sized, held once by a Python worker."""

    known: npt.NDArray[np.bool_]
    """[I] has it an event of anybody before the window."""
    popularity: Floats
    """[I] share of the users with a target event before the window who had one with this item."""
    surprise: Floats
    """[I] self-information in bits, -log2 of the popularity; an item that nobody had counts as if one user had."""
    stratum: Ints
    """[I] place in POPULARITY_STRATA."""
    age: Ints
    """[I] place among the ages (0: youngest); items without an event before the window are youngest."""
    category: Ints
    """[I] code of the category, -1 where it has none."""
    categories: int
    """Number of categories."""
    vectors: npt.NDArray[np.float32] | None
    """[I, D] of length 1, zeros where an item has none; None where none has one."""

    @property
    def size(self) -> int:
        """I."""
        return len(self.known)


@lru_cache(maxsize=2)
def load_facts(
    path: str, cut: int, shares: tuple[float, ...], age_days: tuple[int, ...], with_vectors: bool = True
) -> ItemFacts:
    """The facts that were written to `path` (a directory that is not used again), seen at `cut` (epoch seconds)."""
    table = ds.dataset(path, format="parquet").to_table().sort_by("item_index")
    rows = table["item_index"].to_numpy()
    item = rows >= 0
    index = rows[item]
    size = int(index.max(initial=-1)) + 1

    def by_item(name: str, missing: int) -> Ints:
        values = np.full(size, missing, dtype=np.int64)
        values[index] = table[name].fill_null(missing).to_numpy()[item]
        return values

    everybody = max(1, int(table["target_users"].to_numpy()[~item].sum()))
    users, targets = by_item("target_users", 0), by_item("target_events", 0)
    first = by_item("first", cut)
    category, categories = _codes(table["category"].filter(pa.array(item)), index, size)
    return ItemFacts(
        known=by_item("events", 0) > 0,
        popularity=users / everybody,
        surprise=np.log2(everybody / np.maximum(users, 1)),
        stratum=popularity_strata(targets, shares),
        age=np.searchsorted(np.array(age_days) * A_DAY, cut - first, side="right").astype(np.int64),
        category=category,
        categories=categories,
        vectors=_vectors(table["vector"].filter(pa.array(item)), index, size) if with_vectors else None,
    )


def popularity_strata(counts: Ints, shares: Sequence[float]) -> Ints:
    """[I] place in POPULARITY_STRATA, from [I] target events before the window (`strata_of_counts`)."""
    values, place, items = np.unique(counts, return_inverse=True, return_counts=True)
    return strata_of_counts(values, items, shares)[place]


def strata_of_counts(values: Ints, items: Ints, shares: Sequence[float]) -> Ints:
    """[V] place in POPULARITY_STRATA, from [V] different counts of events and [V] how many items have each.

    In the order of falling counts an item is head while the items before it hold less than shares[0] of all events,
    mid while less than shares[1], else tail. Items of equal counts fall into one stratum, those without events are
    tail.
    """
    falling = np.argsort(-values, kind="stable")
    mass = (values * items)[falling]
    before = np.cumsum(mass) - mass
    total = max(1, int(mass.sum()))
    strata = np.empty(len(values), dtype=np.int64)
    strata[falling] = np.searchsorted(np.array(shares), before / total, side="right")
    return np.where(values > 0, strata, len(POPULARITY_STRATA) - 1).astype(np.int64)


def age_names(age_days: Sequence[int]) -> tuple[str, ...]:
    """What the ages are called, youngest first."""
    young, old = age_days
    return (f"under {young} days", f"{young} to {old - 1} days", f"from {old} days")


def _codes(column: pa.ChunkedArray, index: Ints, size: int) -> tuple[Ints, int]:
    """Codes in the order of the categories' names, so that they do not depend on the order of rows."""
    encoded = pa.concat_arrays(column.chunks or [pa.array([], pa.string())]).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    rank = np.empty(len(names), dtype=np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    places = encoded.indices.fill_null(-1).to_numpy()
    codes = np.full(size, -1, dtype=np.int64)
    codes[index] = np.where(places >= 0, rank[places], -1) if len(names) else -1
    return codes, len(names)


def _vectors(column: pa.ChunkedArray, index: Ints, size: int) -> npt.NDArray[np.float32] | None:
    there = column.is_valid().to_numpy()
    if not there.any():
        return None
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    dense = array.flatten().to_numpy().reshape(int(there.sum()), -1)
    vectors = np.zeros((size, dense.shape[1]), dtype=np.float32)
    vectors[index[there]] = dense
    return vectors
