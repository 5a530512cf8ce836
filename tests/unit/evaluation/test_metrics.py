"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.evaluation.metrics import mean_metrics, user_metrics
from recsys_spark.evaluation.relevance import fold_users, relevant_items


def lists(spark: SparkSession, *rows: tuple[str, str, list[str]]) -> DataFrame:
    flat = [(m, u, rank, item) for m, u, items in rows for rank, item in enumerate(items, start=1)]
    return spark.createDataFrame(flat, "model string, user_id string, rank int, item_id string")


def relevant(spark: SparkSession, **items: list[str]) -> DataFrame:
    flat = [(user, item) for user, row in items.items() for item in row]
    return spark.createDataFrame(flat, "user_id string, item_id string")


def test_metrics_of_one_list_are_those_of_the_hand(spark: SparkSession) -> None:
    # Hits at ranks 2 and 4; three items are relevant, one of them is not in the list.
    frame = user_metrics(
        lists(spark, ("m", "u", ["x", "a", "y", "b", "z"])), relevant(spark, u=["a", "b", "c"]), ks=(2, 5)
    )
    [row] = frame.collect()
    ideal5 = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    ideal2 = 1 + 1 / math.log2(3)
    expected = {
        "ndcg_5": (1 / math.log2(3) + 1 / math.log2(5)) / ideal5,
        "recall_5": 2 / 3,
        "precision_5": 2 / 5,
        "hit_rate_5": 1.0,
        "map_5": (1 / 2 + 2 / 4) / 3,
        "mrr_5": 1 / 2,
        "ndcg_2": (1 / math.log2(3)) / ideal2,
        "recall_2": 1 / 2,
        "precision_2": 1 / 2,
        "map_2": (1 / 2) / 2,
        "mrr_2": 1 / 2,
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value), name


def test_a_hit_below_the_cut_counts_nothing(spark: SparkSession) -> None:
    frame = user_metrics(lists(spark, ("m", "u", ["x", "y", "a"])), relevant(spark, u=["a"]), ks=(2,))
    [row] = frame.collect()
    assert [row[name] for name in ("ndcg_2", "recall_2", "hit_rate_2", "map_2", "mrr_2")] == [0.0] * 5


def test_users_without_a_list_or_a_hit_count_zero_in_the_mean(spark: SparkSession) -> None:
    frame = mean_metrics(
        lists(spark, ("m", "u", ["a"]), ("m", "v", ["x"])),
        relevant(spark, u=["a"], v=["b"], w=["c"], t=["d"]),
        models=["m", "silent"],
        num_items=8,
        ks=(10,),
    )
    rows = frame.collect()
    assert {row["value"] for row in rows if row["model"] == "silent"} == {0.0}
    assert len([row for row in rows if row["model"] == "silent"]) == 7
    values = {row["metric"]: (row["value"], row["users"]) for row in rows if row["model"] == "m"}
    assert values["ndcg"] == (0.25, 4)
    assert values["mrr"] == (0.25, 4)
    assert values["coverage"] == (2 / 8, 4)


EVENTS = "user_id string, item_index int, event_type int, fold int"
PURCHASE, VIEW = 4, 1


def relevance(spark: SparkSession, cold: str, mode: str) -> set[tuple[str, str]]:
    events = spark.createDataFrame(
        [
            ("u", 1, PURCHASE, 0),
            ("u", 2, VIEW, 0),
            ("u", 1, PURCHASE, 2),  # a repeat
            ("u", 2, PURCHASE, 2),  # seen before, but not bought
            ("u", 3, PURCHASE, 2),  # known: v had it before
            ("u", 3, PURCHASE, 2),  # twice is once
            ("u", 9, PURCHASE, 2),  # nobody had it before the window
            ("u", 4, VIEW, 2),  # not a target event
            ("v", 3, VIEW, 1),
            ("new", 1, PURCHASE, 2),  # no history
        ],
        EVENTS,
    )
    items = spark.createDataFrame([(i, f"i{i}") for i in range(10)], "item_index int, item_id string")
    rows = relevant_items(events, items, 2, ("purchase",), cold, mode)  # type: ignore[arg-type]
    return {(row["user_id"], row["item_id"]) for row in rows.collect()}


def test_relevance_is_distinct_known_target_items_of_users_with_history(spark: SparkSession) -> None:
    assert relevance(spark, "exclude", "allow") == {("u", "i1"), ("u", "i2"), ("u", "i3")}


def test_cold_items_stay_as_misses_where_asked(spark: SparkSession) -> None:
    assert relevance(spark, "miss", "allow") == {("u", "i1"), ("u", "i2"), ("u", "i3"), ("u", "i9")}


def test_drop_takes_out_what_was_bought_before_not_what_was_viewed(spark: SparkSession) -> None:
    assert relevance(spark, "exclude", "drop") == {("u", "i2"), ("u", "i3")}


def test_users_without_history_are_counted_apart(spark: SparkSession) -> None:
    events = spark.createDataFrame([("u", 1, PURCHASE, 0), ("u", 1, PURCHASE, 2), ("n", 1, PURCHASE, 2)], EVENTS)
    [row] = fold_users(events, 2, ("purchase",)).collect()
    assert (row["target_users"], row["no_history"]) == (2, 1)
