from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.features import Word2Vec
from recsys_spark.features.text import Vocabulary
from recsys_spark.features.word2vec import SHIFT, Pairs, count_pairs, count_token_pairs, embed, positive_pmi, read_pairs
from recsys_spark.tables.location import spark_path


def listed(sequences: list[list[int]], members: list[list[bool]], window: int) -> tuple[Counter, Counter]:
    """The pairs and totals, one by one."""
    pairs: Counter[tuple[int, int]] = Counter()
    totals: Counter[int] = Counter()
    for sequence, member in zip(sequences, members, strict=True):
        for i, j in combinations(range(len(sequence)), 2):
            one, other = sequence[i], sequence[j]
            if j - i <= window and one != other and member[i] and member[j]:
                weight = window - (j - i) + 1
                pairs[min(one, other), max(one, other)] += weight
                totals[one] += weight
                totals[other] += weight
    return pairs, totals


@pytest.mark.parametrize("window", [1, 3, 30])
def test_pairs_are_counted_within_a_sequence_by_their_distance(window: int) -> None:
    draw = Random(window)
    sequences = [[draw.randrange(8) for _ in range(draw.randrange(12))] for _ in range(20)]
    members = [[[draw.random() < share for _ in sequence] for sequence in sequences] for share in (0.6, 1.0)]
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    member = np.array([[one for sequence in fit for one in sequence] for fit in members])
    keys, weights = count_pairs(np.concatenate(sequences).astype(np.int64), member, offsets, window)
    assert len(set(keys.tolist())) == len(keys)
    for place, fit in enumerate(members):
        pairs, totals = listed(sequences, fit, window)
        found = {
            (key >> SHIFT, key & (2**SHIFT - 1)): n
            for key, n in zip(keys.tolist(), weights[:, place].tolist(), strict=True)
        }
        assert {pair: n for pair, n in found.items() if n and pair[0] != pair[1]} == dict(pairs)
        assert {pair[0]: n for pair, n in found.items() if n and pair[0] == pair[1]} == dict(totals)


def test_no_sequence_gives_no_pair() -> None:
    keys, weights = count_pairs(np.zeros(0, np.int64), np.zeros((2, 0), bool), np.zeros(1, np.int64), 5)
    assert keys.shape == (0,)
    assert weights.shape == (0, 2)


PAIRS = Pairs(low=np.array([0, 1]), high=np.array([1, 2]), weights=np.array([6, 2]), totals=np.array([6, 8, 2]))


def test_pmi_follows_the_formula() -> None:
    plain = positive_pmi(PAIRS, shift=1, smoothing=1).toarray()
    assert plain[0, 1] == pytest.approx(math.log(6 * 16 / (6 * 8)))
    assert plain[1, 2] == plain[2, 1] == pytest.approx(math.log(2 * 16 / (8 * 2)))
    assert plain[0, 2] == 0
    assert plain.trace() == 0
    smooth = positive_pmi(PAIRS, shift=1.5, smoothing=0.75).toarray()
    context = [total**0.75 for total in (6, 8, 2)]
    assert smooth[1, 2] == pytest.approx(math.log(2 * sum(context) / (8 * context[2] * 1.5)), abs=1e-6)
    assert not positive_pmi(PAIRS, shift=100, smoothing=1).nnz


def test_pairs_that_count_most_are_read_whatever_the_files(spark: SparkSession, tmp_path: Path) -> None:
    def key(one: int, other: int) -> int:
        return one << SHIFT | other

    rows = [
        (key(3, 5), 4, 1),
        (key(5, 9), 9, 0),
        (key(3, 9), 4, 0),
        (key(3, 3), 8, 1),
        (key(5, 5), 13, 1),
        (key(9, 9), 13, 0),
    ]
    for name, part in [("a", rows[:2]), ("b", rows[2:])]:
        columns = dict(zip(("key", "select", "publish"), map(list, zip(*part, strict=True)), strict=True))
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    counted = spark.read.parquet(spark_path(tmp_path))
    things = np.array([9, 3, 5])
    every = read_pairs(tmp_path, counted, "select", things, max_pairs=10)
    assert sorted(zip(every.low.tolist(), every.high.tolist(), every.weights.tolist(), strict=True)) == [
        (1, 0, 4),
        (1, 2, 4),
        (2, 0, 9),
    ]
    assert every.totals.tolist() == [13, 8, 13]
    two = read_pairs(tmp_path, counted, "select", things, max_pairs=2)  # of the two that count 4 neither fits alone
    assert (two.low.tolist(), two.high.tolist(), two.weights.tolist()) == ([2], [0], [9])
    assert two.totals.tolist() == [13, 8, 13]
    other = read_pairs(tmp_path, counted, "publish", things, max_pairs=10)
    assert (other.weights.tolist(), other.totals.tolist()) == ([1], [0, 1, 1])


def test_pairs_of_one_large_weight_are_not_kept_where_they_are_too_many(spark: SparkSession, tmp_path: Path) -> None:
    key = [n << SHIFT | n + 1 for n in range(10)]
    pq.write_table(pa.table({"key": key, "select": [5000] * 10}), tmp_path / "pairs.parquet")
    counted, things = spark.read.parquet(spark_path(tmp_path)), np.arange(11)
    assert len(read_pairs(tmp_path, counted, "select", things, max_pairs=3).weights) == 0
    pq.write_table(pa.table({"key": key, "select": [5000] * 8 + [6000, 7000]}), tmp_path / "pairs.parquet")
    counted = spark.read.parquet(spark_path(tmp_path))
    assert read_pairs(tmp_path, counted, "select", things, max_pairs=3).weights.tolist() == [6000, 7000]


@pytest.mark.parametrize("limit", [1, 5, 1000])
def test_token_pairs_are_the_same_however_texts_are_cut_into_chunks(limit: int) -> None:
    draw = Random(8)
    texts = [[draw.randrange(2, 7) for _ in range(draw.randrange(7))] for _ in range(12)]
    # The second fit has the items from the fourth on, and numbers the words the other way.
    names = ["a", "b", "c", "d", "e"]
    vocabularies = {
        fit: Vocabulary(tuple(tokens), np.ones(5, dtype=np.int64), 12)
        for fit, tokens in (("select", names), ("publish", names[::-1]))
    }
    batch = pa.RecordBatch.from_pydict(
        {
            "item_id": [f"item{n}" for n in range(12)],
            "title": [" ".join(names[token - 2] for token in text) for text in texts],
            **{name: pa.nulls(12, pa.string()) for name in ("description", "category", "brand")},
            "events_select": [1] * 12,
            "events_publish": [0] * 3 + [1] * 9,
        }
    )
    found: dict[str, Counter[tuple[int, int]]] = {"select": Counter(), "publish": Counter()}
    for part in count_token_pairs(vocabularies, 1, frozenset(), 2, limit)([batch]):
        for row in part.to_pylist():
            for fit, pairs in found.items():
                pairs[row["key"] >> SHIFT, row["key"] & (2**SHIFT - 1)] += row[fit] or 0
    for fit, own in (("select", texts), ("publish", [[8 - token for token in text] for text in texts[3:]])):
        pairs, totals = listed(own, [[True] * len(text) for text in own], 2)
        expected = {**pairs, **{(token, token): total for token, total in totals.items()}}
        assert +found[fit] == expected


def test_items_of_one_basket_lie_together_and_those_of_two_apart() -> None:
    draw = Random(5)
    sequences = [[10 * group + draw.randrange(10) for _ in range(12)] for group in (0, 1) * 40]
    sequences += [[draw.randrange(20) for _ in range(6)] for _ in range(10)]
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    keys, weights = count_pairs(np.concatenate(sequences).astype(np.int64), np.ones((1, offsets[-1]), bool), offsets, 5)
    low, high, weights = keys >> SHIFT, keys & (2**SHIFT - 1), weights[:, 0]
    own = low == high
    totals = np.zeros(21, dtype=np.int64)
    totals[low[own]] = weights[own]
    pairs = Pairs(low[~own], high[~own], weights[~own], totals)
    vectors = embed(pairs, Word2Vec(dim=4), seed=1)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0] * 20 + [0.0], abs=1e-5)
    near = vectors[:20] @ vectors[:20].T
    group = np.arange(20) // 10
    for item in range(20):
        others = np.argsort(-near[item])[1:10]
        assert (group[others] == group[item]).mean() >= 0.8
    assert embed(pairs, Word2Vec(dim=4), seed=1).tobytes() == vectors.tobytes()
    assert embed(pairs, Word2Vec(dim=64), seed=1).shape == (21, 64)  # more dimensions than items


@pytest.mark.parametrize("things", [0, 3])
def test_without_pairs_there_are_no_vectors(things: int) -> None:
    none = np.zeros(0, dtype=np.int64)
    vectors = embed(Pairs(none, none, none, np.zeros(things, dtype=np.int64)), Word2Vec(dim=4), seed=1)
    assert (vectors.shape, vectors.any()) == ((things, 4), False)


def test_the_vectors_span_the_matrix_as_a_full_svd_says() -> None:
    draw = np.random.default_rng(2)
    dense = np.triu(draw.integers(0, 3, (30, 30)), 1)
    low, high = np.nonzero(dense)
    totals = (dense + dense.T).sum(axis=1)
    pairs = Pairs(low, high, dense[low, high], totals)
    left, values, _ = np.linalg.svd(positive_pmi(pairs, 1, 0.75).toarray())
    expected = left[:, :5] * np.sqrt(values[:5])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = embed(pairs, Word2Vec(dim=5), seed=3)
    assert np.allclose(found @ found.T, expected @ expected.T, atol=0.02)
