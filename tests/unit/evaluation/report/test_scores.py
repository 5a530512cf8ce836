"""Histograms of the scores of lists, from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.evaluation.report.scores import BINS, score_histograms


def write(directory: Path, files: list[dict[tuple[str, str], np.ndarray]]) -> Path:
    """Lists of ten places: scores of each model and mode, file by file."""
    directory.mkdir()
    for number, lists in enumerate(files):
        tables = [
            pa.table(
                {
                    "model": [model] * len(scores),
                    "repeats": [mode] * len(scores),
                    "score": pa.array(scores, pa.float32()),
                    "rank": pa.array(np.arange(len(scores)) % 10 + 1, pa.int32()),
                }
            )
            for (model, mode), scores in lists.items()
        ]
        pq.write_table(pa.concat_tables(tables), directory / f"{number}.parquet")
    return directory


def test_every_score_is_counted_once_wherever_it_stands(tmp_path: Path) -> None:
    draws = np.random.default_rng(5)
    gru, fused = draws.normal(size=3000), draws.uniform(-9, -3, 1000)
    one = write(tmp_path / "one", [{("gru", "allow"): gru, ("fused", "drop"): fused}])
    parts = [{("fused", "drop"): fused[:100], ("gru", "allow"): gru[:1000]}, {("gru", "allow"): gru[1000:]}]
    many = write(tmp_path / "many", [*parts, {("fused", "drop"): fused[100:]}])
    for found, again in zip(score_histograms(one), score_histograms(many), strict=True):
        np.testing.assert_array_equal(found.counts, again.counts)
        np.testing.assert_array_equal(found.firsts, again.firsts)
        np.testing.assert_array_equal(found.edges, again.edges)
    assert [(each.model, each.repeats) for each in score_histograms(one)] == [("fused", "drop"), ("gru", "allow")]
    [first, second] = score_histograms(one)
    assert (first.rows, first.lists, second.rows, second.lists) == (1000, 100, 3000, 300)
    for each in (first, second):
        assert each.counts.sum() + each.beyond == each.rows
        assert each.beyond <= 0.01 * each.rows
        assert len(each.counts) == BINS


def test_the_counts_are_those_of_the_bins(tmp_path: Path) -> None:
    scores = np.random.default_rng(6).exponential(size=2000).astype(np.float32)
    [found] = score_histograms(write(tmp_path / "lists", [{("ease", "allow"): scores}]))
    np.testing.assert_array_equal(found.counts, np.histogram(scores, found.edges)[0])
    np.testing.assert_array_equal(found.firsts, np.histogram(scores[::10], found.edges)[0])
    low, high = np.quantile(scores, [0.005, 0.995])
    assert found.edges[0] <= low < found.edges[0] + 0.01
    assert high <= found.edges[-1] < 1.01 * high


def test_one_wild_score_does_not_squeeze_the_others(tmp_path: Path) -> None:
    scores = np.append(np.linspace(1, 2, 999), 1e30)
    [found] = score_histograms(write(tmp_path / "lists", [{("als", "allow"): scores}]))
    assert found.edges[-1] < 2.02
    assert 1 <= found.beyond <= 12


def test_scores_that_are_all_alike_have_a_histogram(tmp_path: Path) -> None:
    for value in (0.0, -3.0, 7.5):
        [found] = score_histograms(write(tmp_path / str(value), [{("popularity", "allow"): np.full(20, value)}]))
        assert found.counts.sum() == 20
        assert found.beyond == 0
        assert found.edges[0] <= value <= found.edges[-1]


def test_no_lists_have_no_histogram(tmp_path: Path) -> None:
    assert score_histograms(write(tmp_path / "lists", [{("als", "allow"): np.empty(0)}])) == []
