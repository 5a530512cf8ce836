"""Backtests of a whole shop: walked forward, and blind to what comes after each origin's window."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import load_config
from recsys_spark.pipeline.backtest import backtest_stage
from recsys_spark.pipeline.runner import Outcome, Runner
from recsys_spark.pipeline.stages import STAGES
from tests.contract.planted import train_here
from tests.e2e.conftest import read
from tests.shop import GROUPS, START, item, purchases, write_purchases, write_shop

MODELS = ("popularity", "repurchase", "item_knn", "content_knn", "gru")
SETTINGS = (f"models=[{','.join(MODELS)}]", "split.backtests=2", "evaluation.bootstrap=20")
MIDNIGHT = START.replace(hour=0)
NEWER, OLDER = (MIDNIGHT + timedelta(days=day) for day in (42, 28))
"""Starts of the two windows: 84 days, of which 28 are the run's valid and test windows, in steps of 14."""


def runner_of(spark: SparkSession, config: Path) -> Runner:
    runner = Runner(load_config([str(config)], SETTINGS), "tests", None)
    runner.__dict__["spark"] = spark
    return runner


def backtest(spark: SparkSession, folder: Path, poisoned: bool) -> tuple[Path, Outcome, pa.Table]:
    config = write_shop(folder)
    if poisoned:
        rows = [
            (user, item((int(sku[4]) + 1) % GROUPS, 3) if when >= NEWER else sku, when, invoice, count, price)
            for user, sku, when, invoice, count, price in purchases()
        ]
        write_purchases(folder / "landing" / "sales.csv", rows)
    runner = runner_of(spark, config)
    for name in ("clean_events", "build_features", "build_datasets"):
        runner.run(STAGES[name])
    with patch("recsys_spark.fitting.neural.launch", train_here):
        outcome = runner.run(backtest_stage(), reuse=True)
    return config, outcome, read(outcome.commit.path("backtest_metrics"))


def values(table: pa.Table, origin: int) -> dict[tuple[object, ...], float]:
    keys = ("model", "repeats", "metric", "k")
    rows = [row for row in table.to_pylist() if row["origin"] == origin]
    return {tuple(row[key] for key in keys): row["value"] for row in rows if row["value"] is not None}


@pytest.mark.slow
def test_backtests_are_walked_forward_and_what_comes_later_changes_nothing_of_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    config, done, table = backtest(spark, tmp_path / "shop", poisoned=False)
    assert set(table["model"].to_pylist()) == {*MODELS, "fused"}
    windows = {(row["origin"], row["valid_start"], row["valid_end"]) for row in table.to_pylist()}
    naive = {(number, start.replace(tzinfo=None), end.replace(tzinfo=None)) for number, start, end in windows}
    assert naive == {(1, NEWER, NEWER + timedelta(days=14)), (2, OLDER, OLDER + timedelta(days=14))}
    oldest, newest = done.commit.facts["origins"]
    assert (oldest["origin"], oldest["chosen_on"], newest["chosen_on"]) == (2, None, 2)
    assert oldest["settings"]["allow"]["method"] == "average"

    # The shop's users buy from their own group and a staple each week: at every origin that beats what is popular.
    for origin in (1, 2):
        found = values(table, origin)
        assert found["repurchase", "allow", "ndcg", 5] > found["popularity", "allow", "ndcg", 5]
        assert found["fused", "allow", "ndcg", 5] > found["popularity", "allow", "ndcg", 5]
    both = [values(table, origin)["fused", "allow", "ndcg", 5] for origin in (1, 2)]
    assert done.commit.metrics["backtest.fused.ndcg_at_5.min"] == pytest.approx(min(both))
    assert done.commit.metrics["backtest.fused.ndcg_at_5.mean"] == pytest.approx(sum(both) / 2)

    again = runner_of(spark, config).run(backtest_stage(), reuse=True)
    assert again.skipped  # nothing changed, so nothing is done

    _, other, poisoned = backtest(spark, tmp_path / "poisoned", poisoned=True)
    assert values(poisoned, 2) == pytest.approx(values(table, 2), abs=1e-9)
    assert other.commit.facts["origins"][1]["settings"] == newest["settings"]
    assert values(poisoned, 1) != values(table, 1)
