"""Measures of the scores of lists."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.monitoring.finding import Measure
from recsys_spark.monitoring.judging import judge
from recsys_spark.monitoring.scores import measure_scores
from tests.watched import Watched

DAY = date(2024, 3, 6)
MIDNIGHT = datetime(2024, 3, 6)
FACTS = {"k": 2, "repeats": "allow", "model_version": "m1", "served_model_version": "m1"}


def lists(scores: list[float | None]) -> list[dict[str, object]]:
    return [{"user_id": str(n), "rank": 1, "item_id": "i", "score": score} for n, score in enumerate(scores)]


def measured(
    spark: SparkSession, root: Path, scores: list[float | None], **facts: str
) -> dict[tuple[str, str], Measure]:
    shop = Watched(spark, root)
    evaluated = [
        {"model": "fused", "repeats": "allow", "user_id": str(n), "rank": 1, "item_id": "i", "score": n / 1000}
        for n in range(1001)
    ]
    others = [{**evaluated[0], "model": "als", "score": 50.0}, {**evaluated[0], "rank": 3, "score": 60.0}]
    shop.publish("evaluate_models", {"evaluation_recommendations": [*evaluated, *others]})
    inputs = {"evaluate_models": 1}
    before = {"recommendations": lists([2 * n / 1000 for n in range(1001)])}
    shop.publish("fuse_recommendations", before, MIDNIGHT, MIDNIGHT, facts=FACTS, inputs=inputs)
    evening = MIDNIGHT + timedelta(days=1)
    now = {"recommendations": lists(scores)}
    shop.publish("fuse_recommendations", now, evening, evening, facts={**FACTS, **facts}, inputs=inputs)
    return {(measure.name, measure.subject): measure for measure in measure_scores(shop.context(DAY))}


def test_scores_are_compared_with_the_evaluated_lists_and_those_before(spark: SparkSession, tmp_path: Path) -> None:
    found = measured(spark, tmp_path, [n / 1000 for n in range(1001)])
    assert found["psi", "evaluated"].value == found["ks", "evaluated"].value == 0.0
    assert found["spread", "evaluated"].value == pytest.approx(1.0)
    assert found["spread", "evaluated"].reference == pytest.approx(0.9, abs=0.005)
    assert found["ks", "before"].value == pytest.approx(0.5, abs=0.01)
    assert found["spread", "before"].value == pytest.approx(0.5, abs=0.01)
    assert (found["not_finite", ""].value, found["not_finite", ""].rows) == (0.0, 1001)


def test_one_score_for_all_and_scores_that_are_no_numbers_are_alerts(spark: SparkSession, tmp_path: Path) -> None:
    bad: list[float | None] = [None, float("nan"), float("inf")]
    found = measured(spark, tmp_path, [*([0.5] * 600), *bad], served_model_version="m2")
    assert ("psi", "before") not in found, "another model made the lists before"
    assert ("psi", "evaluated") not in found, "and another one was evaluated"
    assert found["not_finite", ""].value == 3.0
    none = measured(spark, tmp_path / "none", bad)
    assert list(none) == [("not_finite", "")], "nothing is left to compare"
    assert none["not_finite", ""].value == 3.0
    same = measured(spark, tmp_path / "same", [0.5] * 600)
    alerts = {(one.measure.name, one.measure.subject) for one in judge(same.values(), {}) if one.status == "alert"}
    assert {("spread", "evaluated"), ("psi", "evaluated")} <= alerts
