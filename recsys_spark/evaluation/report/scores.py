"""How the scores of lists are distributed: two passes over the written lists, a record batch at a time.

The first pass counts scores by the upper 16 bits of their float32 (sign, exponent and 7 bits of the mantissa), which
gives every percentile to within a hundredth of its size, whatever the scale; the second fills equal bins between two of
them. What is held are some hundred KB for each model and mode, whatever the number of users.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_spark.evaluation.report.content import Histogram
from recsys_spark.evaluation.report.reading import scanner

BINS, OUTER = 40, 0.005
"""Bins of a histogram, and the share of scores on each side that is beyond it."""
KEYS = 1 << 16
Lists = tuple[str, str]
"""Model and mode."""


def score_histograms(lists: Path) -> list[Histogram]:
    """A histogram for each model and mode of the table evaluation_recommendations, in their order."""
    sketches: dict[Lists, npt.NDArray[np.int64]] = defaultdict(lambda: np.zeros(KEYS, dtype=np.int64))
    for key, scores, _ in _parts(lists):
        sketches[key] += np.bincount(_keys(scores), minlength=KEYS)
    edges = {key: _edges(sketch) for key, sketch in sketches.items()}
    every: dict[Lists, npt.NDArray[np.int64]] = {key: np.zeros(BINS, dtype=np.int64) for key in edges}
    firsts = {key: counts.copy() for key, counts in every.items()}
    of_first: dict[Lists, int] = defaultdict(int)
    for key, scores, ranks in _parts(lists):
        every[key] += np.histogram(scores, edges[key])[0]
        firsts[key] += np.histogram(scores[ranks == 1], edges[key])[0]
        of_first[key] += int((ranks == 1).sum())
    return [_histogram(key, sketches[key], edges[key], every[key], firsts[key], of_first[key]) for key in sorted(edges)]


def _histogram(
    key: Lists,
    sketch: npt.NDArray[np.int64],
    edges: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    firsts: npt.NDArray[np.int64],
    lists: int,
) -> Histogram:
    rows = int(sketch.sum())
    return Histogram(
        model=key[0],
        repeats=key[1],
        edges=edges,
        counts=counts,
        firsts=firsts,
        beyond=rows - int(counts.sum()),
        rows=rows,
        lists=lists,
    )


def _parts(lists: Path) -> Iterator[tuple[Lists, npt.NDArray[np.float32], npt.NDArray[np.int32]]]:
    """Model and mode, scores and ranks, of every batch of the lists."""
    for batch in scanner(lists, ["model", "repeats", "score", "rank"]).to_batches():
        if not batch.num_rows:
            continue
        models, modes = (batch[name].dictionary_encode() for name in ("model", "repeats"))
        codes = _numbers(models.indices) * len(modes.dictionary) + _numbers(modes.indices)
        scores, ranks = batch["score"].to_numpy(), batch["rank"].to_numpy()
        for code in np.unique(codes).tolist():
            model, mode = divmod(code, len(modes.dictionary))
            chosen = codes == code
            yield (models.dictionary[model].as_py(), modes.dictionary[mode].as_py()), scores[chosen], ranks[chosen]


def _numbers(indices: pa.Array) -> npt.NDArray[np.int64]:
    return indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _keys(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """The upper half of each float32, turned so that keys are in the order of the scores."""
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32)
    turned: npt.NDArray[np.uint32] = np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))
    return turned >> np.uint32(16)


def _value(key: int, upper: bool) -> float:
    """The lower or the upper end of the scores that share a key."""
    turned = np.uint32((key << 16) | (0xFFFF if upper else 0))
    bits = turned ^ np.uint32(1 << 31) if key >> 15 else ~turned
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])


def _edges(sketch: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Equal bins from the percentile OUTER to 1 - OUTER, widened to whole keys."""
    cumulated = np.cumsum(sketch)
    total = int(cumulated[-1])
    low = int(np.searchsorted(cumulated, OUTER * total, side="right"))
    high = int(np.searchsorted(cumulated, (1 - OUTER) * total, side="left"))
    start, end = _value(low, upper=False), _value(max(low, high), upper=True)
    return np.linspace(start, end, BINS + 1) if end > start else np.linspace(start - 0.5, start + 0.5, BINS + 1)
