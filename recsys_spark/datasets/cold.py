"""Cold items: those without an event before the valid, or before the test window, and who wanted them there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.datasets.sequences import first_occurrences
from recsys_spark.datasets.split import TEST, TRAIN, VALID
from recsys_spark.datasets.tasks import read_columns
from recsys_spark.datasets.vocabulary import add_counts
from recsys_spark.tables.files import new_file

COLD = pa.schema(
    [
        pa.field("fold", pa.int32()),
        pa.field("item_index", pa.int32()),
        pa.field("events", pa.int64()),
        pa.field("first_time", pa.int64()),
    ]
)
COLD_ITEMS = pa.schema(
    [
        pa.field("fold", pa.int32()),
        pa.field("item_index", pa.int32()),
        pa.field("item_id", pa.string()),
        pa.field("events", pa.int64()),
        pa.field("users", pa.int64()),
        pa.field("first_time", pa.int64()),
    ]
)
"""The table: an item stands under the fold of its first event, with its events and users in that fold."""
COLD_TARGETS = pa.schema(
    [
        pa.field("fold", pa.int32()),
        pa.field("user_index", pa.int32()),
        pa.field("user_id", pa.string()),
        pa.field("items", pa.list_(pa.int32())),
    ]
)
"""The table: the distinct cold items of a user's target events in that fold, in order of first occurrence."""


def find_cold(counts: Path, path: Path) -> int:
    """Write the COLD items of valid and test; their number. Item-sized, in one task."""
    total, first = add_counts(counts, origin=0)
    fold = np.argmax(total > 0, axis=0)  # 0 where there is no event at all
    items = np.flatnonzero(fold > TRAIN)
    own = fold[items]
    columns = [own, items, total[own, items], first[own, items]]
    with new_file(path) as file:
        pq.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], COLD.names).cast(COLD), file)
    return len(items)


@lru_cache(maxsize=2)
def cold_folds(path: str) -> npt.NDArray[np.int64]:
    """The fold of each cold item_index, -1 for others: item-sized, held once by each Python worker."""
    table = pq.read_table(path, columns=["item_index", "fold"])
    items = table["item_index"].to_numpy()
    folds = np.full(int(items.max(initial=-1)) + 2, -1, dtype=np.int64)  # the last place stands for all beyond
    folds[items] = table["fold"].to_numpy()
    return folds


def cold_users(flat: FlatHistories, folds: npt.NDArray[np.int64], path: Path) -> FlatHistories:
    """Write how many of these users had an event with each cold item in its fold; returns these events."""
    fold = folds[np.minimum(flat.items, len(folds) - 1)]
    events = flat.keep(fold == flat.folds)
    _, items = first_occurrences(events)
    found, users = np.unique(items, return_counts=True)
    with new_file(path) as file:
        columns = [pa.array(found, pa.int32()), pa.array(users, pa.int64())]
        pq.write_table(pa.Table.from_arrays(columns, names=["item_index", "users"]), file)
    return events


def cold_targets(events: FlatHistories, target_types: Sequence[int], histories: str, path: Path) -> dict[int, int]:
    """Write a bucket's rows of the table cold_targets, if there are any; how many there are of each fold."""
    parts, rows = [], {}
    for fold in (VALID, TEST):
        row, items = first_occurrences(events.in_folds([fold]).of_types(target_types))
        users, starts = np.unique(row, return_index=True)
        if not len(users):
            continue
        offsets = pa.array(np.r_[starts, len(row)], pa.int32())
        ids = pq.ParquetFile(histories).read(["user_id"], use_threads=False)["user_id"]
        columns = [
            pa.array(np.full(len(users), fold)),
            pa.array(events.users[users]),
            ids.take(pa.array(users)).combine_chunks(),
            pa.ListArray.from_arrays(offsets, pa.array(items.astype(np.int32))),
        ]
        parts.append(pa.Table.from_arrays(columns, names=COLD_TARGETS.names).cast(COLD_TARGETS))
        rows[fold] = len(users)
    if parts:
        with new_file(path) as file:
            pq.write_table(pa.concat_tables(parts), file, compression="zstd")
    return rows


def write_cold_items(cold: Path, users: Sequence[Path], item_ids: Path, path: Path) -> dict[int, int]:
    """Write the table cold_items; how many there are of each fold. Item-sized, in one task."""
    table = pq.read_table(cold)
    items = table["item_index"].to_numpy()
    top = int(items.max(initial=0)) + 1
    counts = np.zeros(top, dtype=np.int64)
    for file in users:
        part = pq.read_table(file)
        counts[part["item_index"].to_numpy()] += part["users"].to_numpy()
    known = read_columns(item_ids, ["item_index", "item_id"])
    places = np.zeros(top, dtype=np.int64)
    index = known["item_index"].to_numpy()
    inside = index < top
    places[index[inside]] = np.flatnonzero(inside)
    ids = known["item_id"].take(pa.array(places[items])).combine_chunks()
    columns = [table["fold"], table["item_index"], ids, table["events"], pa.array(counts[items]), table["first_time"]]
    with new_file(path) as file:
        pq.write_table(pa.Table.from_arrays(columns, names=COLD_ITEMS.names).cast(COLD_ITEMS).combine_chunks(), file)
    folds = table["fold"].to_numpy()
    return {fold: int((folds == fold).sum()) for fold in (VALID, TEST)}
