"""The items of a fit, and how many events each had: counted once for all fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_spark.datasets.flat import FlatHistories, Ints, hashed
from recsys_spark.datasets.split import Cuts
from recsys_spark.datasets.tasks import Told, read_columns
from recsys_spark.tables.files import new_file

HELD = 64
"""Vocabularies that a Python worker holds: more than a run has plans, three fits and at most 24 backtests."""
COUNTS = pa.schema(
    [
        pa.field("origin", pa.int32()),
        pa.field("fold", pa.int32()),
        pa.field("item_index", pa.int32()),
        pa.field("count", pa.int64()),
        pa.field("first", pa.int64()),
    ]
)
"""Events and first time of the items of a bucket of users, in each fold of each origin."""
VOCABULARY = pa.schema(
    [
        pa.field("code", pa.int32(), nullable=False),
        pa.field("item_index", pa.int32(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)


def count_items(flat: FlatHistories, origins: Sequence[Cuts], path: Path) -> Iterator[Told]:
    """Write the COUNTS of a bucket of users; tells of each fold of each origin, under the name fold-<origin>.

    `flat` is in the folds of the first origin. The fingerprint is the exclusive or of a hash of each event (user, place
    in the history, item, type, time): the same whatever the order of rows, and different when an event changes.
    """
    rows = flat.rows
    prints = hashed(
        1, flat.users[rows], np.arange(len(rows)) - flat.offsets[rows], flat.items, flat.event_types, flat.times
    )
    tables = []
    for origin, cuts in enumerate(origins):
        known = np.ones(len(rows), dtype=bool) if origin == 0 else flat.times < cuts.as_of
        folds = flat.folds if origin == 0 else cuts.folds(flat.times, flat.offsets)
        for fold in np.unique(folds[known]).tolist():
            own = known & (folds == fold)
            times, items = flat.times[own], flat.items[own]
            count = np.bincount(items)
            first = np.full(len(count), np.iinfo(np.int64).max)
            np.minimum.at(first, items, times)
            found = np.flatnonzero(count)
            columns = [np.full(len(found), origin), np.full(len(found), fold), found, count[found], first[found]]
            tables.append(pa.Table.from_arrays([pa.array(column) for column in columns], COUNTS.names).cast(COUNTS))
            yield Told(
                name=f"fold-{origin}",
                number=fold,
                rows=len(items),
                first=int(times.min()),
                last=int(times.max()),
                heaviest=float(flat.weights[own].max()),
                fingerprint=int(np.bitwise_xor.reduce(prints[own])),
            )
    with new_file(path) as file:
        pq.write_table(pa.concat_tables([COUNTS.empty_table(), *tables]), file, compression="zstd")


def add_counts(counts: Path, origin: int) -> tuple[Ints, Ints]:
    """[3, I] events of each item_index in each fold of an origin, and their first time: item-sized.

    Reads the files one after the other: as many rows as there are items in each bucket of users.
    """
    total = np.zeros((3, 0), dtype=np.int64)
    first = np.zeros((3, 0), dtype=np.int64)
    for path in sorted(counts.glob("*.parquet")):
        table = pq.ParquetFile(path).read(use_threads=False)
        own = table.filter(pc.equal(table["origin"], origin))
        fold, item, count, time = (own[name].to_numpy() for name in COUNTS.names[1:])
        more = int(item.max(initial=-1)) + 1 - total.shape[1]
        if more > 0:
            total = np.pad(total, ((0, 0), (0, more)))
            first = np.pad(first, ((0, 0), (0, more)), constant_values=np.iinfo(np.int64).max)
        total[fold, item] += count  # a bucket names an item once in a fold
        first[fold, item] = np.minimum(first[fold, item], time)
    return total, first


def write_vocabulary(counts: Path, origin: int, folds: Sequence[int], items: Path, path: Path) -> int:
    """Write vocabulary.parquet of the items with events in the folds, codes 0.. in the order of item_id; their number.

    `items` is the directory of the table. Everything here is item-sized, and one task holds it.
    """
    total = add_counts(counts, origin)[0][list(folds)].sum(axis=0)
    table = read_columns(items, ["item_index", "item_id", "title"])
    index = table["item_index"].to_numpy()
    count = np.where(index < len(total), total[np.minimum(index, len(total) - 1)], 0)
    known = table.append_column("count", pa.array(count)).filter(pa.array(count > 0)).sort_by("item_id")
    title = pc.coalesce(known["title"], known["item_id"])
    code = pa.array(np.arange(len(known)), pa.int32())
    columns = [code, known["item_index"], known["item_id"], title, known["count"]]
    with new_file(path) as file:
        pq.write_table(pa.Table.from_arrays(columns, names=VOCABULARY.names).cast(VOCABULARY).combine_chunks(), file)
    return len(known)


@lru_cache(maxsize=HELD)
def vocabulary_codes(path: str) -> npt.NDArray[np.int32]:
    """Code of each item_index, -1 for none: item-sized, held once by each Python worker (paths are never reused)."""
    table = pq.read_table(path, columns=["code", "item_index"])
    index = table["item_index"].to_numpy()
    lookup = np.full(int(index.max(initial=0)) + 1, -1, dtype=np.int32)
    lookup[index] = table["code"].to_numpy()
    return lookup


@lru_cache(maxsize=HELD)
def vocabulary_counts(path: str) -> Ints:
    """[I] events of each item of a vocabulary, by code."""
    counts: Ints = pq.read_table(path, columns=["count"])["count"].to_numpy()
    return counts
