"""Measures of lists against numbers worked out by hand, and against the evaluation's own exposure metrics."""

from __future__ import annotations

import random
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.evaluation.exposure import exposure_metrics
from recsys_spark.monitoring.judging import judge
from recsys_spark.monitoring.lists import Alike, coverage_and_gini, items_alike, list_shapes, measure_lists
from recsys_spark.tables.schemas import TABLES
from tests.watched import Watched, lists_of

DAY = date(2024, 3, 6)
BEFORE, AFTER = datetime(2024, 3, 6), datetime(2024, 3, 7)


def frame(spark: SparkSession, rows: list[dict[str, object]]) -> DataFrame:
    return spark.createDataFrame(rows, TABLES["recommendations"].schema)


def test_shapes_of_lists_are_those_of_the_hand(spark: SparkSession) -> None:
    now = lists_of({"u": "abc", "v": "abc", "w": "acb", "t": "d"}) + lists_of({"s": "xyz"}, component="popularity")
    mixed = {**lists_of({"m": "x"}, component="popularity")[0], "components": {"popularity": 0.1, "ease": 0.2}}
    # u keeps b and c, v nothing, w all in another order, t one of four; s and m had no list, gone has none now.
    before = lists_of({"u": "bcq", "v": "qrs", "w": "abc", "t": "defg", "gone": "a"})
    shapes = list_shapes(frame(spark, [*now, mixed]), frame(spark, before))
    assert (shapes.lists, shapes.fallback, shapes.different, shapes.most_alike) == (6, 1, 5, 2)
    assert shapes.compared == 4
    assert shapes.churn == pytest.approx((1 / 3 + 1 + 0 + 3 / 4) / 4)


def test_coverage_and_gini_of_counts_are_those_of_the_hand() -> None:
    # Of five items two are on one list each, one on four: sorted 0, 0, 1, 1, 4.
    coverage, gini = coverage_and_gini([Alike(4, 1, "c"), Alike(1, 2, "a")], 5)
    pairs = sum(abs(x - y) for x in (0, 0, 1, 1, 4) for y in (0, 0, 1, 1, 4))
    assert coverage == 3 / 5
    assert gini == pytest.approx(pairs / (2 * 4 * 6))  # mean absolute difference, for I - 1 in place of I
    assert coverage_and_gini([Alike(2, 4, "a")], 4) == (1.0, 0.0)
    assert coverage_and_gini([Alike(7, 1, "a")], 9) == (pytest.approx(1 / 9), 1.0)


@pytest.mark.slow
def test_coverage_and_gini_are_those_of_the_evaluation(spark: SparkSession) -> None:
    draw = random.Random(3)
    users = {f"u{n}": draw.sample("abcdefghijklm", k=draw.randint(1, 4)) for n in range(40)}
    lists = frame(spark, lists_of(users))
    named = lists.withColumns({"model": F.lit("m"), "repeats": F.lit("allow")})
    theirs = {row["metric"]: row["value"] for row in exposure_metrics(named, 20, [4]).collect()}
    alike = items_alike(lists)
    assert coverage_and_gini(alike, 20) == pytest.approx((theirs["coverage"], theirs["gini"]))
    held = {item: sum(item in items for items in users.values()) for item in "abcdefghijklm"}
    assert max(alike, key=lambda each: each.lists).lists == max(held.values())


def test_one_list_for_all_is_an_alert_that_names_itself(spark: SparkSession, tmp_path: Path) -> None:
    watched = Watched(spark, tmp_path)
    watched.publish("build_datasets", {}, facts={"num_items": {"publish": 40}})
    told: dict[str, Any] = {"inputs": {"build_datasets": 1}, "metrics": {"users": 30.0}}
    own = {f"u{n}": [f"i{n}", f"i{(n + 1) % 30}"] for n in range(30)}
    watched.publish("fuse_recommendations", {"recommendations": lists_of(own)}, BEFORE, **told)
    same = {f"u{n}": ["i1", "i2"] for n in range(27)}
    watched.publish("fuse_recommendations", {"recommendations": lists_of(same)}, AFTER, **told)
    found = {finding.measure.name: finding for finding in judge(measure_lists(watched.context(DAY)), {})}
    values = {name: finding.measure.value for name, finding in found.items()}
    changed = [1 - len({f"i{n}", f"i{(n + 1) % 30}"} & {"i1", "i2"}) / 2 for n in range(27)]
    assert values == {
        "age_days": 0.0,
        "empty_share": pytest.approx(3 / 30),
        "fallback_share": 0.0,
        "same_list_share": 1.0,
        "churn": pytest.approx(sum(changed) / 27),
        "top_item_share": 1.0,
        "coverage": 2 / 40,
        "gini": pytest.approx(38 / 39),
    }
    assert {name for name, finding in found.items() if finding.status == "alert"} >= {"same_list_share"}
    assert "One list for all" in found["same_list_share"].sentence
    assert "item i1 and 1 more" in found["top_item_share"].sentence


@pytest.mark.slow
def test_lists_of_their_own_raise_no_alert(spark: SparkSession, tmp_path: Path) -> None:
    watched = Watched(spark, tmp_path)
    watched.publish("build_datasets", {}, facts={"num_items": {"publish": 40}})
    told: dict[str, Any] = {"inputs": {"build_datasets": 1}, "metrics": {"users": 30.0}}
    for as_of, turn in ((BEFORE, 0), (AFTER, 1)):
        own = {f"u{n}": [f"i{n}", f"i{(n + 1 + turn) % 30}"] for n in range(30)}
        watched.publish("fuse_recommendations", {"recommendations": lists_of(own)}, as_of, **told)
    assert {finding.status for finding in judge(measure_lists(watched.context(DAY)), {})} == {"ok"}


def test_without_lists_nothing_is_measured(spark: SparkSession, tmp_path: Path) -> None:
    assert measure_lists(Watched(spark, tmp_path).context(DAY)) == []
