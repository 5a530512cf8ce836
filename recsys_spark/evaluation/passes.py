"""The one pass over users in which everything is measured: partial sums of each task, added up in Spark.

A task holds a block of users and the B + 1 sums of each column, for B replicates: nothing that grows with users.
The work is users x replicates draws, and users x replicates x columns additions as one matrix product a block, where
columns are about 50 for each k, model and mode of repeats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.evaluation.bootstrap import QUANTUM, poisson_weights, weighted_sums
from recsys_spark.evaluation.item_facts import ItemFacts, load_facts
from recsys_spark.evaluation.measures import Measuring, Users, sums_of_users
from recsys_spark.evaluation.off_policy import Exposures

USERS_A_BLOCK = 512
SUMS = "name string, place int, sums array<bigint>"
WEIGHT_QUANTUM, SQUARE_QUANTUM = 2.0**-26, 2.0**-4
"""Importance weights reach a million, and their squares its square."""
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class FactsAt:
    """Where the item facts stand, and how they are read: the arguments of `load_facts`."""

    path: str
    cut: int
    shares: tuple[float, ...]
    age_days: tuple[int, ...]
    with_vectors: bool

    def load(self) -> ItemFacts:
        """The facts, held once by each Python worker."""
        return load_facts(self.path, self.cut, self.shares, self.age_days, self.with_vectors)


def users_with_lists(
    histories: DataFrame,
    lists: DataFrame,
    items: DataFrame,
    measuring: Measuring,
    seed: int,
    exposures: DataFrame | None = None,
    tasks: int | None = None,
) -> DataFrame:
    """The histories with `key` (hash of seed and user) and arrays of what was listed and exposed; one row a user.

    `lists(model, repeats, user_id, rank, item_id)`, `items(item_id, item_index)`,
    `exposures(user_id, item_index, rank, propensity, time)`. A user without lists stays.
    With `tasks` the rows lie in so many partitions: adaptive execution counts bytes, and users are costly.
    """
    numbers = {
        (model, mode): number * len(measuring.modes) + place
        for number, model in enumerate(measuring.models)
        for place, mode in enumerate(measuring.modes)
    }
    named = [(F.lit(f"{model} {mode}"), F.lit(number)) for (model, mode), number in numbers.items()]
    code = F.create_map(*[part for pair in named for part in pair])
    entry = F.struct(F.col("list"), F.col("rank"), F.col("item_index").alias("item"))
    indexed = (
        lists.where(F.col("rank") <= max(measuring.ks))
        .withColumn("list", F.element_at(code, F.concat_ws(" ", "model", "repeats")))
        .where(F.col("list").isNotNull())
        .join(items.select("item_id", "item_index"), on="item_id", how="inner")
        .select("user_id", entry.alias("entry"))
    )
    if tasks is not None:
        histories, indexed = histories.repartition(tasks, "user_id"), indexed.repartition(tasks, "user_id")
    listed = indexed.groupBy("user_id").agg(F.collect_list("entry").alias("listed"))
    empty = F.array().cast("array<struct<list:int,rank:int,item:int>>")
    users = histories.join(listed, on="user_id", how="left").withColumn("listed", F.coalesce("listed", empty))
    if exposures is not None:
        shown = F.struct(F.col("item_index").alias("item"), "rank", "propensity", "time")
        by_user = exposures.groupBy("user_id").agg(F.collect_list(shown).alias("exposed"))
        none = F.array().cast("array<struct<item:int,rank:int,propensity:double,time:bigint>>")
        users = users.join(by_user, on="user_id", how="left").withColumn("exposed", F.coalesce("exposed", none))
    return users.withColumn("key", F.xxhash64(F.lit(seed), F.col("user_id")))


def summed(users: DataFrame, facts: FactsAt, measuring: Measuring, replicates: int) -> dict[str, Floats]:
    """Name to the [B + 1, L] (or [B + 1, modes]) sums over all users of `users_with_lists`.

    The driver holds columns x (B + 1) numbers.
    """

    def measure(batches: Batches) -> Iterator[pa.RecordBatch]:
        totals: dict[str, Ints] = {}
        read = facts.load()
        for batch in FlatHistories.chunks(batches):
            for start in range(0, batch.num_rows, USERS_A_BLOCK):
                rows = batch.slice(start, USERS_A_BLOCK)
                values = sums_of_users(block_of(rows, read.size, measuring), read, measuring)
                weights = poisson_weights(rows.column("key").to_numpy(), replicates)
                _add(totals, _sums(values, weights))
        yield from _rows(totals)

    partial = users.mapInArrow(measure, SUMS)
    total = partial.repartition("name").mapInArrow(_added, SUMS).toArrow()
    widths: dict[str, dict[int, npt.NDArray[np.int64]]] = {}
    names, places = total["name"].to_pylist(), total["place"].to_pylist()
    for name, place, sums in zip(names, places, total["sums"], strict=True):
        widths.setdefault(name, {})[place] = sums.values.to_numpy()
    return {
        name: np.stack([columns[place] for place in range(len(columns))], axis=1) * quantum_of(name)
        for name, columns in widths.items()
    }


def quantum_of(name: str) -> float:
    """The quantum in which a column is summed."""
    metric = name.partition("|")[0]
    if metric == "ips_squares":
        return SQUARE_QUANTUM
    return WEIGHT_QUANTUM if metric in ("ips", "ips_weight", "exposures") else QUANTUM


def block_of(rows: pa.RecordBatch, size: int, measuring: Measuring) -> Users:
    """A block of rows of `users_with_lists`; items from `size` on are left out: nothing is known of them."""
    flat = FlatHistories.from_batch(rows)
    known = flat.items < size
    listed = _flattened(rows.column("listed"))
    lists = np.full((rows.num_rows, measuring.lists, max(measuring.ks)), -1, dtype=np.int64)
    user, entry = listed["row"], listed["item"] < size
    lists[user[entry], listed["list"][entry], listed["rank"][entry] - 1] = listed["item"][entry]
    return Users(
        rows=flat.rows[known],
        items=flat.items[known],
        event_types=flat.event_types[known],
        folds=flat.folds[known],
        times=flat.times[known],
        lists=lists,
        exposures=_exposures(rows, size, measuring.logged.ranked) if measuring.logged is not None else None,
    )


def _exposures(rows: pa.RecordBatch, size: int, ranked: bool) -> Exposures:
    shown = _flattened(rows.column("exposed"))
    known = (shown["item"] >= 0) & (shown["item"] < size)
    return Exposures(
        rows=shown["row"],
        items=np.where(known, shown["item"], size),  # an item that nothing is known of is in no list
        ranks=shown["rank"] if ranked else None,
        propensities=shown["propensity"].astype(np.float64),
        times=shown["time"],
    )


def _flattened(column: pa.ListArray) -> dict[str, Any]:
    """The fields of a column of lists of structs, and under `row` the row of each entry."""
    lengths = pc.list_value_length(column).to_numpy()
    structs = column.flatten()
    fields = {
        structs.type.field(place).name: values.to_numpy(zero_copy_only=False)
        for place, values in enumerate(structs.flatten())
    }
    named = {name: values if values.dtype.kind == "f" else values.astype(np.int64) for name, values in fields.items()}
    return {**named, "row": np.repeat(np.arange(len(column)), lengths)}


def _sums(values: Mapping[str, Floats], weights: Floats) -> dict[str, Ints]:
    """Name to [B + 1, width] sums, by one product for all columns of a quantum."""
    sums: dict[str, Ints] = {}
    for quantum in sorted({quantum_of(name) for name in values}):
        names = [name for name in values if quantum_of(name) == quantum]
        columns = weighted_sums(weights, np.concatenate([values[name] for name in names], axis=1), quantum)
        ends = np.cumsum([values[name].shape[1] for name in names])
        sums |= dict(zip(names, np.split(columns, ends[:-1], axis=1), strict=True))
    return sums


def _add(totals: dict[str, Ints], sums: Mapping[str, Ints]) -> None:
    for name, columns in sums.items():
        totals[name] = totals[name] + columns if name in totals else columns


def _rows(totals: Mapping[str, Ints]) -> Iterator[pa.RecordBatch]:
    for name, columns in totals.items():
        replicates, width = columns.shape
        offsets = pa.array(np.arange(width + 1) * replicates, pa.int32())
        yield pa.RecordBatch.from_arrays(
            [
                pa.array([name] * width, pa.string()),
                pa.array(np.arange(width), pa.int32()),
                pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(columns.T).ravel())),
            ],
            names=["name", "place", "sums"],
        )


def _added(batches: Batches) -> Iterator[pa.RecordBatch]:
    """Rows of SUMS with equal names and places added up; a partition has all that it has of a name."""
    totals: dict[str, dict[int, Ints]] = {}
    for batch in batches:
        names, places = batch.column("name").to_pylist(), batch.column("place").to_pylist()
        for name, place, sums in zip(names, places, batch.column("sums"), strict=True):
            own = totals.setdefault(name, {})
            values = sums.values.to_numpy()
            own[place] = own[place] + values if place in own else values
    for name, columns in totals.items():
        yield from _rows({name: np.stack([columns[place] for place in range(len(columns))], axis=1)})
