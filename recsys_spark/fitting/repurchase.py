"""Repurchase: how often each item is bought again, and how fast a purchase is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fitting.decay import SECONDS_A_DAY
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.recommenders.history_rules import HistoryRules

DEPTH = 10
"""K of the NDCG@K by which the half-life is chosen."""
WINDOWS = 4
"""Least length of the parameter window, in held-out windows, for the half-life to be chosen on its last part."""
MICRO = 1_000_000
"""NDCG is summed over users in whole millionths, so that the sum is the same for any partitioning."""


def fit(inputs: FitInputs) -> Facts:
    """Count repeat buyers, choose the half-life unless it is frozen, and write the bundle.

    The driver holds some numbers an item.
    """
    types = tuple(EVENT_TYPES.index(name) for name in inputs.config.evaluation.target_events if name in EVENT_TYPES)
    half_life = inputs.frozen.get("half_life_days")
    if half_life is None:
        half_life = choose_half_life(inputs, types)
    propensity = repeat_propensity(inputs, inputs.events(), types)
    recommender = HistoryRules(inputs.name, torch.from_numpy(propensity).float(), float(half_life), types)
    recommender.save(inputs.output, inputs.vocabulary)
    return {"half_life_days": float(half_life)}


def repeat_propensity(inputs: FitInputs, events: DataFrame, types: tuple[int, ...]) -> NDArray[np.float64]:
    """[I] share of the item's buyers who bought it on two days or more, drawn to the mean over all (user, item) pairs.

    p_i = (r_i + s m) / (n_i + s) with n_i buyers, r_i repeat buyers, smoothing s, m = (sum r + 1) / (sum n + 2).
    """
    day = F.floor(F.col("time") / F.lit(SECONDS_A_DAY))
    bought = events.where(F.col("event_type").isin(*types))
    pairs = bought.groupBy("user_index", "item").agg((F.max(day) > F.min(day)).cast("int").alias("again"))
    counts = pairs.groupBy("item").agg(F.count(F.lit(1)).alias("buyers"), F.sum("again").alias("repeaters"))
    buyers, repeaters = inputs.item_values(counts, "buyers", "repeaters")
    mean = (repeaters.sum() + 1) / (buyers.sum() + 2)
    smoothing = inputs.config.recommenders.repurchase.smoothing
    return np.asarray((repeaters + smoothing * mean) / (buyers + smoothing))


def choose_half_life(inputs: FitInputs, types: tuple[int, ...]) -> float:
    """The half-life with the best NDCG@10 on the last `split.valid_days` of the parameter window.

    The middle one where the split goes by position, or the window is shorter than four times that.
    """
    half_lives = inputs.config.recommenders.repurchase.half_lives_days
    middle = half_lives[len(half_lives) // 2]
    if len(half_lives) == 1 or inputs.config.split.strategy != "temporal":
        return middle
    length = inputs.config.split.valid_days * SECONDS_A_DAY
    start = inputs.cut_time - length
    # Folds never decrease along a history, so the oldest event of all is the oldest of the fit's folds.
    oldest = inputs.histories.agg(F.min(F.array_min("times")).alias("oldest")).first()
    if oldest is None or oldest["oldest"] is None or inputs.cut_time - oldest["oldest"] < WINDOWS * length:
        return middle
    gains = _gains(inputs, types, start, half_lives)
    for half_life, gain in zip(half_lives, gains, strict=True):
        inputs.metric(f"{inputs.name}.ndcg_at_{DEPTH}", gain, round(half_life))
    return half_lives[int(np.argmax(gains))]


def _gains(inputs: FitInputs, types: tuple[int, ...], start: int, half_lives: tuple[float, ...]) -> list[float]:
    """Mean NDCG@10 of each half-life over the users who buy after `start`: one pass, a few numbers from each task."""
    propensity = repeat_propensity(inputs, inputs.events().where(F.col("time") < start), types)
    vocabulary = pq.read_table(inputs.vocabulary, columns=["code", "item_index"], partitioning=None)
    indices = vocabulary["item_index"].to_numpy()
    codes = np.full(int(indices.max(initial=0)) + 1, -1, dtype=np.int64)
    codes[indices] = vocabulary["code"].to_numpy()
    shared = inputs.spark.sparkContext.broadcast(HeldOut(propensity, codes, inputs.folds, types, start, half_lives))

    def of_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            gains, users = shared.value.gains(batch)
            millionths = [round(gain * MICRO) for gain in gains]
            yield pa.RecordBatch.from_pydict(
                {"place": list(range(len(gains))), "gain": millionths, "users": [users] * len(gains)}
            )

    columns = inputs.histories.select("items", "event_types", "weights", "times", "folds")
    partial = columns.mapInArrow(of_batches, "place bigint, gain bigint, users bigint")
    sums = partial.groupBy("place").agg(F.sum("gain").alias("gain"), F.sum("users").alias("users"))
    try:
        found = {row["place"]: row["gain"] / MICRO / max(row["users"], 1) for row in sums.collect()}
    finally:
        shared.destroy()
    return [found.get(place, 0.0) for place in range(len(half_lives))]


@dataclass(frozen=True)
class HeldOut:
    """Scores batches of histories before `start` against what the users bought after it."""

    propensity: NDArray[np.float64]
    codes: NDArray[np.int64]
    """Global item index to code, -1 for items outside the vocabulary."""
    folds: tuple[int, ...]
    types: tuple[int, ...]
    start: int
    half_lives: tuple[float, ...]

    def gains(self, batch: pa.RecordBatch) -> tuple[NDArray[np.float64], int]:
        """Sum of NDCG@10 of each half-life, and the number of users with a history and a purchase after it."""
        items = self._codes_of(_values(batch, "items"))
        times = _values(batch, "times")
        users = np.repeat(np.arange(batch.num_rows), batch.column("items").value_lengths().to_numpy())
        seen = (items >= 0) & np.isin(_values(batch, "folds"), self.folds)
        before = seen & (times < self.start)
        after = seen & (times >= self.start) & np.isin(_values(batch, "event_types"), self.types)
        pairs, place = np.unique(users[before] * len(self.propensity) + items[before], return_inverse=True)
        targets = np.unique(users[after] * len(self.propensity) + items[after])
        relevant = np.bincount(targets // len(self.propensity), minlength=batch.num_rows)
        known = np.bincount(users[before], minlength=batch.num_rows) > 0
        counted = known & (relevant > 0)
        ages = (self.start - times[before]) / SECONDS_A_DAY
        weights = _values(batch, "weights")[before].astype(np.float64)
        sums = []
        for half_life in self.half_lives:
            frequency = np.bincount(place, weights * 0.5 ** (ages / half_life), minlength=len(pairs)).astype(np.float64)
            ndcg = self._ndcg(pairs, frequency, targets, relevant)
            sums.append(ndcg[counted].sum())
        return np.asarray(sums), int(counted.sum())

    def _ndcg(
        self,
        pairs: NDArray[np.int64],
        frequency: NDArray[np.float64],
        targets: NDArray[np.int64],
        relevant: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """NDCG@10 of each user's items ranked by frequency x propensity, ties to the smaller code."""
        users, items = np.divmod(pairs, len(self.propensity))
        order = np.lexsort((items, -frequency * self.propensity[items], users))
        firsts = np.searchsorted(users, np.arange(len(relevant)))  # pairs are ascending, so are their users
        ranks = np.arange(len(order)) - firsts[users[order]]
        discounts = 1 / np.log2(np.arange(DEPTH) + 2)
        hit = np.isin(pairs[order], targets) & (ranks < DEPTH)
        gained = np.bincount(users[order][hit], discounts[ranks[hit]], minlength=len(relevant))
        ideal = np.concatenate([[np.inf], np.cumsum(discounts)])[np.minimum(relevant, DEPTH)]
        return np.asarray(gained / ideal)

    def _codes_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        inside = np.minimum(indices, len(self.codes) - 1)
        return np.where(indices < len(self.codes), self.codes[inside], -1)


def _values(batch: pa.RecordBatch, column: str) -> NDArray[np.int64]:
    return np.asarray(batch.column(column).flatten().to_numpy(zero_copy_only=False))
