"""Word2Vec by counting: vectors of items from histories (prod2vec) and of words from item texts.

Skip-gram with negative sampling factorises the matrix of shifted pointwise mutual information of words and their
neighbours (Levy and Goldberg 2014), so the vectors are taken from a truncated SVD of its positive part, as Levy,
Goldberg and Dagan (2015) set it up: neighbours weighed by distance, smoothed neighbour frequencies, no shift, square
root of the singular values, rows of length 1. Counting pairs is one pass of Spark with exact sums, so the vectors are
the same however the rows are divided and ordered; stochastic training is that only in one partition. docs/features.md
holds the comparison with MLlib's Word2Vec. Items of histories as words: Grbovic et al. (2015), prod2vec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import scipy.sparse as sp
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.config.features import Word2Vec
from recsys_spark.datasets.flat import FlatHistories, parts
from recsys_spark.features.text import FIRST_TOKEN, Vocabulary, item_texts, words

PAIRS_A_CHUNK = 2_000_000
"""Pairs that a task holds at a time, or those of one user or text."""
SHIFT = 31
"""A pair (low, high) is the key low << 31 | high; the key of (i, i) holds the total of item i."""
OVERSAMPLE, POWER_ITERATIONS = 16, 4
"""Of the randomised SVD: further directions, and multiplications that draw them to the strongest ones."""
Batches = Iterable[pa.RecordBatch]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pairs:
    """How often n things stand beside each other."""

    low: Ints
    """[P] one of the pair."""
    high: Ints
    """[P] the other."""
    weights: Ints
    """[P] how much the pair counts."""
    totals: Ints
    """[n] of each thing: the weight of all its pairs, those that are left out here among them."""


def neighbours(offsets: Ints, window: int) -> Iterator[tuple[Ints, Ints, int]]:
    """Positions (left, right) of every two entries of a sequence at distance 1 to window, and what they count."""
    total = int(offsets[-1])
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    for distance in range(1, min(window, total - 1) + 1):
        left = np.flatnonzero(owner[:-distance] == owner[distance:])
        yield left, left + distance, window - distance + 1


def count_pairs(values: Ints, member: npt.NDArray[np.bool_], offsets: Ints, window: int) -> tuple[Ints, Ints]:
    """Keys of the pairs [K] ascending and their weights [K, F], with each value's total as its pair with itself.

    `values` [N] of sequences that end at `offsets`; `member` [F, N] says in which of F fits a position takes part. A
    value beside itself is no pair. Distances are those in the whole sequence; a fit's events are the first of it.
    """
    keys, weights = [np.zeros(0, dtype=np.int64)], [np.zeros((0, len(member)), dtype=np.int64)]
    for left, right, weight in neighbours(offsets, window):
        counted = member[:, left] & member[:, right] & (values[left] != values[right])
        some = counted.any(axis=0)
        one, other = values[left[some]], values[right[some]]
        keys.append(np.minimum(one, other) << SHIFT | np.maximum(one, other))
        weights.append(counted[:, some].T.astype(np.int64) * weight)
    pairs, counts = _summed(np.concatenate(keys), np.concatenate(weights))
    low, high = pairs >> SHIFT, pairs & ((1 << SHIFT) - 1)
    both = np.concatenate([low << SHIFT | low, high << SHIFT | high])
    totals, sums = _summed(both, np.concatenate([counts, counts]))
    return np.concatenate([pairs, totals]), np.concatenate([counts, sums])


def _summed(keys: Ints, weights: Ints) -> tuple[Ints, Ints]:
    if not len(keys):
        return keys, weights
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return keys[starts], np.add.reduceat(weights[order], starts, axis=0)


def history_pairs(
    histories: DataFrame, kept: Mapping[str, Ints], folds: Mapping[str, Sequence[int]], window: int
) -> DataFrame:
    """Pairs of item_index by fit: (key, a column for each fit), from the histories table.

    `kept` [<= max_items] ascending: the items of each fit that take part; a fit's events are those of its `folds`.
    """
    fits, limit = tuple(kept), max(1, PAIRS_A_CHUNK // window)

    def count(batches: Batches) -> Batches:
        for batch in FlatHistories.chunks(batches, limit):
            flat = FlatHistories.from_batch(batch)
            member = np.stack([np.isin(flat.folds, folds[fit]) & _within(kept[fit], flat.items) for fit in fits])
            keys, weights = count_pairs(flat.items, member, flat.offsets, window)
            yield _pair_batch(keys, dict(zip(fits, weights.T, strict=True)), fits)

    return _summed_pairs(histories.mapInArrow(count, _schema(fits)), fits)


def token_pairs(
    items: DataFrame, vocabularies: Mapping[str, Vocabulary], min_length: int, stop_words: frozenset[str], window: int
) -> DataFrame:
    """Pairs of token ids by fit in the texts of its items: (key, a column for each fit, in that fit's own ids)."""
    counting = count_token_pairs(vocabularies, min_length, stop_words, window, max(1, PAIRS_A_CHUNK // window))
    fits = tuple(vocabularies)
    return _summed_pairs(items.mapInArrow(counting, _schema(fits)), fits)


def count_token_pairs(
    vocabularies: Mapping[str, Vocabulary], min_length: int, stop_words: frozenset[str], window: int, limit: int
) -> Callable[[Batches], Batches]:
    """What a task does for `token_pairs`: whole texts at a time, of at most `limit` tokens together, or one."""
    fits = tuple(vocabularies)

    def count(batches: Batches) -> Batches:
        for batch in batches:
            texts = [words(text, min_length, stop_words) for text in item_texts(batch)]
            for fit in fits:
                own = batch.column(f"events_{fit}").to_numpy() > 0
                tokens = vocabularies[fit].encode([text for text, belongs in zip(texts, own, strict=True) if belongs])
                for start, stop in parts(tokens.offsets, limit):
                    offsets = tokens.offsets[start : stop + 1]
                    ids = tokens.ids[offsets[0] : offsets[-1]]
                    known = (ids >= FIRST_TOKEN)[None]
                    keys, weights = count_pairs(ids, known, offsets - offsets[0], window)
                    yield _pair_batch(keys, {fit: weights[:, 0]}, fits)

    return count


def _within(kept: Ints, items: Ints) -> npt.NDArray[np.bool_]:
    if not len(kept):
        return np.zeros(len(items), dtype=np.bool_)
    return kept[np.minimum(np.searchsorted(kept, items), len(kept) - 1)] == items


def _schema(fits: Sequence[str]) -> str:
    return ", ".join(["key bigint", *(f"{fit} bigint" for fit in fits)])


def _pair_batch(keys: Ints, weights: Mapping[str, Ints], fits: Sequence[str]) -> pa.RecordBatch:
    """The weights of the fits that are named, null for the others."""
    none = pa.nulls(len(keys), pa.int64())
    columns = [pa.array(np.ascontiguousarray(weights[fit])) if fit in weights else none for fit in fits]
    return pa.RecordBatch.from_arrays([pa.array(keys), *columns], ["key", *fits])


def _summed_pairs(counted: DataFrame, fits: Sequence[str]) -> DataFrame:
    return counted.groupBy("key").agg(*[F.coalesce(F.sum(fit), F.lit(0)).alias(fit) for fit in fits])


def read_pairs(directory: Path, counted: DataFrame, fit: str, things: Ints, max_pairs: int) -> Pairs:
    """The pairs of a fit that count most, at most max_pairs, from the Parquet files at `directory`.

    `counted` is the same rows as a DataFrame. `things` [n] are the numbers in the keys, each once; in the result a
    thing is its place among them. Ties at the border are left out together, so what stays does not depend on any order.
    """
    files = ds.dataset(directory, format="parquet")
    least = 1
    if files.count_rows() > max_pairs:
        least = _border(counted, fit, max_pairs)
    is_total = pc.equal(pc.shift_right(pc.field("key"), SHIFT), pc.bit_wise_and(pc.field("key"), (1 << SHIFT) - 1))
    table = files.to_table(
        columns=["key", fit], filter=(pc.field(fit) > 0) & ((pc.field(fit) >= least) | is_total)
    ).sort_by("key")
    keys, weights = table["key"].to_numpy(), table[fit].to_numpy()
    low, high = keys >> SHIFT, keys & ((1 << SHIFT) - 1)
    own = low == high
    order = np.argsort(things)

    def places(values: Ints) -> Ints:
        return order[np.searchsorted(things, values, sorter=order)]

    totals = np.zeros(len(things), dtype=np.int64)
    totals[places(low[own])] = weights[own]
    return Pairs(low=places(low[~own]), high=places(high[~own]), weights=weights[~own], totals=totals)


def _border(counted: DataFrame, fit: str, max_pairs: int) -> int:
    """The least weight that keeps at most max_pairs pairs; above the largest where even its pairs are too many.

    What comes to the driver is small: n different weights sum up to n * (n + 1) / 2 at least.
    """
    low, high = F.shiftright("key", SHIFT), F.col("key").bitwiseAND((1 << SHIFT) - 1)
    pairs = counted.where((F.col(fit) > 0) & (low != high))
    rows = pairs.groupBy(F.col(fit).alias("weight")).agg(F.count(F.lit(1)).alias("pairs")).collect()
    total, least = 0, max((row["weight"] for row in rows), default=0) + 1
    for row in sorted(rows, key=lambda row: -row["weight"]):
        total += row["pairs"]
        if total > max_pairs:
            break
        least = row["weight"]
    return int(least)


def embed(pairs: Pairs, settings: Word2Vec, seed: int) -> Floats:
    """[n, dim] vectors of length 1, zeros for what has no pair whose PMI is above log(shift)."""
    return _factorised(positive_pmi(pairs, settings.shift, settings.smoothing), settings, seed)


def positive_pmi(pairs: Pairs, shift: float, smoothing: float) -> sp.csr_matrix:
    """[n, n] max(PMI(w, c) - log shift, 0): rows are things, columns neighbours, whose frequencies are smoothed."""
    n = len(pairs.totals)
    seen = np.maximum(pairs.totals, 1).astype(np.float64)
    context = seen**smoothing
    total = np.log((context * (pairs.totals > 0)).sum()) - np.log(shift) if len(pairs.low) else 0.0
    of_row, of_column = np.log(seen), np.log(context)
    joint = np.log(pairs.weights) + total
    entries = []
    for rows, columns in ((pairs.low, pairs.high), (pairs.high, pairs.low)):
        pmi = (joint - of_row[rows] - of_column[columns]).astype(np.float32)
        above = pmi > 0
        entries.append((pmi[above], rows[above].astype(np.int32), columns[above].astype(np.int32)))
    values, rows, columns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    matrix = sp.csr_matrix((values, (rows, columns)), shape=(n, n))
    matrix.sort_indices()  # products add in the order of the entries, which must be the same every time
    return matrix


def _factorised(matrix: sp.csr_matrix, settings: Word2Vec, seed: int) -> Floats:
    """Left singular vectors, scaled: the randomised SVD of Halko, Martinsson and Tropp (2011, algorithms 4.4, 5.1)."""
    n = matrix.shape[0]
    width = min(settings.dim + OVERSAMPLE, n)
    vectors = np.zeros((n, settings.dim), dtype=np.float32)
    if not matrix.nnz:
        return vectors
    start = np.random.default_rng(seed).standard_normal((n, width), dtype=np.float32)
    basis = np.linalg.qr(matrix @ start)[0]
    transposed = matrix.T.tocsr()
    for _ in range(POWER_ITERATIONS):
        basis = np.linalg.qr(matrix @ np.linalg.qr(transposed @ basis)[0])[0]
    inner, values, _ = np.linalg.svd((transposed @ basis).T, full_matrices=False)
    count = min(settings.dim, int((values > values[0] * 1e-6).sum()))
    found = (basis @ inner[:, :count]) * values[:count] ** settings.singular_power
    # A singular vector's sign is free: the entry of the largest size is made positive.
    found *= np.sign(found[np.abs(found).argmax(axis=0), np.arange(count)])
    found[np.diff(matrix.indptr) == 0] = 0
    vectors[:, :count] = unit(found)
    return vectors


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    """The rows scaled to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
