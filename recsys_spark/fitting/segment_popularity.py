"""Popularity by segment: decayed counts of what the users of each segment do, summed by Spark."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyspark.sql import functions as F

from recsys_spark.fitting.decay import UNIT
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.recommenders.histories import HistoryBlock
from recsys_spark.recommenders.segmenting import LEAST_ACTIVITY, ByActivity, ByCategory
from recsys_spark.recommenders.segments import SegmentCounts
from recsys_spark.recommenders.vocabulary import Vocabulary

STEPS_AN_OCTAVE = 16
"""Steps in which activity is counted for its levels: their edges are exact to 4 %."""
Batches = Iterable[pa.RecordBatch]


def fit(inputs: FitInputs) -> Facts:
    """Count every item's events in each segment and write the bundle.

    Users are put into segments by the code that does so at scoring. The driver holds segments x items numbers.
    """
    settings = inputs.config.recommenders.segment_popularity
    segmenter, names = by_category(inputs) if settings.segment_by == "category" else by_activity(inputs)
    counts_SI = _counts(inputs, segmenter)
    shares_SI = smoothed(counts_SI, settings.smoothing)
    recommender = SegmentCounts(inputs.name, torch.from_numpy(shares_SI), segmenter, names, settings.half_life_days)
    recommender.save(inputs.output, inputs.vocabulary)
    everything = counts_SI.sum()
    inputs.progress(
        f"{inputs.name}: {segmenter.size} segments by {settings.segment_by}, "
        f"{1 - counts_SI[0].sum() / max(everything, UNIT):.0%} of the events are of users who have one"
    )
    return {"segments": segmenter.size}


def smoothed(counts_SI: NDArray[np.float64], smoothing: float) -> NDArray[np.float32]:
    """[S+1, I] shares (n_si + c g_i) / (n_s + c), g_i the item's share of all events (Dirichlet smoothing); row 0: g.

    `counts_SI` row 0 holds the users of no segment.
    """
    total = counts_SI.sum()
    shares_I = counts_SI.sum(axis=0) / max(total, UNIT)
    shares_SI = np.empty(counts_SI.shape, dtype=np.float32)
    shares_SI[0] = shares_I
    for segment in range(1, len(counts_SI)):  # row by row: the whole in float64 once more would be the peak of memory
        own_I = counts_SI[segment]
        shares_SI[segment] = (own_I + smoothing * shares_I) / (own_I.sum() + smoothing)
    return shares_SI


def by_category(inputs: FitInputs) -> tuple[ByCategory, tuple[str, ...]]:
    """Segments of the categories with most events, ties to the smaller code, and what each is called."""
    settings = inputs.config.recommenders.segment_popularity
    categories, events = (np.zeros(inputs.num_items, dtype=np.int64) for _ in range(2))
    for batch in inputs.item_table("item_features", "category_code", "events"):
        codes = batch.column("code").to_numpy()
        categories[codes], events[codes] = (batch.column(name).to_numpy() for name in ("category_code", "events"))
    sold = np.bincount(categories, weights=events)
    sold[0] = 0  # unknown ones
    largest = np.argsort(-sold, kind="stable")[: settings.max_categories]
    largest = largest[sold[largest] > 0]
    segment_of = np.zeros(len(sold), dtype=np.int64)
    segment_of[largest] = np.arange(1, len(largest) + 1)
    known = _category_names(inputs)
    names = ("", *(f"among buyers of {known[code - 1]}" for code in largest))
    segments_I = torch.from_numpy(segment_of[categories])
    return ByCategory(segments_I, len(largest), settings.history_half_life_days), names


def _category_names(inputs: FitInputs) -> tuple[str, ...]:
    """The fit's categories; the one at place p has the code p + 1."""
    codes = inputs.described / "features" / inputs.fit / "codes.json"
    return tuple(json.loads(codes.read_text("utf-8"))["categories"])


def by_activity(inputs: FitInputs) -> tuple[ByActivity, tuple[str, ...]]:
    """Levels of about as many active users each, from a histogram of their activity in steps of a 16th octave."""
    settings = inputs.config.recommenders.segment_popularity
    measure = ByActivity(torch.zeros(0), settings.history_half_life_days)
    folds, moment = inputs.folds, _moment(inputs)
    shared = inputs.spark.sparkContext.broadcast(Vocabulary.load(inputs.vocabulary))

    def steps(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            activity = measure.activity(HistoryBlock.from_arrow(batch).before(folds, moment, shared.value))
            active = activity[activity >= LEAST_ACTIVITY]
            step, users = np.unique(torch.floor(active.log2() * STEPS_AN_OCTAVE).numpy(), return_counts=True)
            yield pa.RecordBatch.from_pydict({"step": step.astype(np.int64), "users": users.astype(np.int64)})

    try:
        columns = inputs.histories.select("items", "event_types", "weights", "times", "folds")
        steps_found = columns.mapInArrow(steps, "step bigint, users bigint").groupBy("step")
        found = steps_found.agg(F.sum("users").alias("users")).collect()
    finally:
        shared.destroy()
    edges = level_edges({row["step"]: row["users"] for row in found}, settings.activity_levels)
    segmenter = ByActivity(torch.from_numpy(edges), measure.half_life_days)
    return segmenter, ("", *("among shoppers as active as you" for _ in range(segmenter.size)))


def level_edges(users_of_step: Mapping[int, int], levels: int) -> NDArray[np.float32]:
    """Activities at which the levels from 2 on begin, so that each has about as many users; each once, ascending.

    `users_of_step[s]` users have an activity from 2^(s/16) to below 2^((s+1)/16).
    """
    steps = np.array(sorted(users_of_step), dtype=np.int64)
    reached = np.cumsum([users_of_step[step] for step in steps.tolist()])
    if not len(steps):
        return np.zeros(0, dtype=np.float32)
    wanted = np.arange(1, levels) / levels * reached[-1]
    places = np.unique(np.searchsorted(reached, wanted) + 1)  # an edge is where the step that fills a level ends
    return np.asarray(2.0 ** (steps[places[places < len(steps)]] / STEPS_AN_OCTAVE), dtype=np.float32)


def _moment(inputs: FitInputs) -> int | None:
    """What ages count back from when the fit recommends: None is each user's newest event, as in leave-one-out."""
    timeless = inputs.config.split.strategy == "leave_one_out" and inputs.fit != "publish"
    return None if timeless else inputs.cut_time


def _counts(inputs: FitInputs, segmenter: ByCategory | ByActivity) -> NDArray[np.float64]:
    """[S+1, I] decayed counts, summed in whole units, so that they are the same for any partitioning."""
    half_life = inputs.config.recommenders.segment_popularity.half_life_days
    folds, moment, cut, num_items = inputs.folds, _moment(inputs), inputs.cut_time, inputs.num_items
    shared = inputs.spark.sparkContext.broadcast((Vocabulary.load(inputs.vocabulary), segmenter))

    def count(batches: Batches) -> Iterator[pa.RecordBatch]:
        vocabulary, own = shared.value
        for batch in batches:
            block = HistoryBlock.from_arrow(batch)
            known = block.before(folds, cut, vocabulary)
            segments = own.of(known if moment is not None else block.before(folds, None, vocabulary))
            decayed = known.weights.double() * torch.pow(0.5, known.ages.double() / half_life)
            cells, place = torch.unique(segments[known.users] * num_items + known.items, return_inverse=True)
            units = torch.zeros(cells.numel(), dtype=torch.int64).index_add_(0, place, (decayed / UNIT).round().long())
            yield pa.RecordBatch.from_pydict({"cell": cells.numpy(), "units": units.numpy()})

    columns = inputs.histories.select("items", "event_types", "weights", "times", "folds")
    sums = columns.mapInArrow(count, "cell bigint, units bigint").groupBy("cell").agg(F.sum("units").alias("units"))
    counts = np.zeros((segmenter.size + 1) * num_items)
    try:
        with inputs.streamed(sums) as stream:
            for batch in stream():
                counts[batch.column("cell").to_numpy()] = batch.column("units").to_numpy() * UNIT
    finally:
        shared.destroy()
    return counts.reshape(-1, num_items)
