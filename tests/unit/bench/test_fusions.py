from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.accuracy.fusions import table_row
from bench.accuracy.job import ahead, measured


def test_metrics_are_read_with_their_intervals(tmp_path: Path) -> None:
    rows = [
        {"model": "ease", "repeats": "drop", "metric": "ndcg", "k": 10, "value": 0.5, "low": 0.4, "high": 0.6},
        {"model": "ease", "repeats": "allow", "metric": "ndcg", "k": 10, "value": 0.9, "low": 0.8, "high": 1.0},
        {"model": "ease", "repeats": "drop", "metric": "ndcg", "k": 20, "value": 0.7, "low": 0.6, "high": 0.8},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metrics.parquet")
    assert measured(tmp_path / "metrics.parquet", "drop", 10) == {
        "ease": {"ndcg": {"value": 0.5, "low": 0.4, "high": 0.6}}
    }


def test_a_comparison_that_was_not_made_is_none(tmp_path: Path) -> None:
    row = {"model": "fused", "against": "ease", "repeats": "drop", "metric": "ndcg", "k": 10, "difference": 0.01}
    row |= {"low": 0.002, "high": 0.018, "p_value": 0.01, "users": 7}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "comparisons.parquet")
    found = ahead(tmp_path / "comparisons.parquet", "drop", 10, "fused", "ease")
    assert found == {"difference": 0.01, "low": 0.002, "high": 0.018, "p_value": 0.01, "users": 7}
    assert ahead(tmp_path / "comparisons.parquet", "allow", 10, "fused", "ease") is None


def test_a_row_shows_the_lead_with_its_interval_and_of_whom() -> None:
    metric = {"value": 0.06, "low": 0.05, "high": 0.07}
    lead = {"difference": 0.01, "low": 0.002, "high": 0.018, "p_value": 0.01, "users": 7}
    row = {"model": "fused: stacked", "ndcg": metric, "recall": metric, "seconds": 12.4, "ahead": lead}
    line = table_row({**row, "best_single": "gru"}, "strict")
    assert line == (
        "| fused: stacked | strict | 0.0600 (0.0500 to 0.0700) | 0.0600 | +0.0100 (+0.0020 to +0.0180), gru | 12 |"
    )
