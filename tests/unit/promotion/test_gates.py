"""Each gate passes and fails at its bound, says by how much, and is skipped where what it needs is not there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from recsys_spark.config.promotion import Promotion
from recsys_spark.promotion.gates import Difference, Gate, Latency, ListFacts, Measured, SegmentValue, failed, judge

FACTS = ListFacts(
    ndcg=0.20,
    coverage=0.50,
    users=1000,
    popularity=0.10,
    popularity_lift=0.30,
    segments={"new": SegmentValue(0.10, 100), "heavy": SegmentValue(0.30, 100)},
)
EQUAL = Measured(
    k=10,
    challenger=FACTS,
    evaluated=500,
    champion=FACTS,
    against_champion=Difference(0.0, -0.001, 0.001),
    against_popularity=Difference(0.05, 0.04, 0.06),
    challenger_latency=Latency(4.0, 6.0),
    champion_latency=Latency(4.0, 6.0),
)


def verdict(name: str, measured: Measured, **rules: Any) -> Gate:
    (gate,) = [gate for gate in judge(measured, Promotion(**rules)) if gate.name == name]
    return gate


def with_challenger(**changes: Any) -> Measured:
    return replace(EQUAL, challenger=replace(FACTS, **changes))


def test_an_equal_challenger_passes_every_gate() -> None:
    gates = judge(EQUAL, Promotion(max_popularity_lift=0.5))
    assert len(gates) == 13
    assert {gate.passed for gate in gates} == {True}


def test_nothing_is_decided_on_too_few_users_or_on_none() -> None:
    assert verdict("users", replace(EQUAL, evaluated=29), min_users=30).line == (
        "users: failed: 29 users have something relevant in the window; at least 30; missed by 1"
    )
    assert verdict("users", replace(EQUAL, evaluated=30), min_users=30).passed is True
    assert verdict("ndcg_not_worse", replace(EQUAL, against_champion=None)).passed is False


@pytest.mark.parametrize(("low", "passed"), [(-0.0020, True), (-0.0021, False), (0.01, True)])
def test_not_worse_looks_at_the_low_end_and_a_share_of_the_champions_ndcg(low: float, passed: bool) -> None:
    measured = replace(EQUAL, against_champion=Difference(0.0, low, 0.001))
    gate = verdict("ndcg_not_worse", measured, max_ndcg_loss=0.01)  # 1 % of 0.20
    assert (gate.passed, gate.value, gate.bound) == (passed, low, pytest.approx(-0.002))


def test_a_failed_gate_says_by_how_much() -> None:
    measured = replace(with_challenger(ndcg=0.15), against_champion=Difference(-0.05, -0.0600, -0.04))
    gate = verdict("ndcg_not_worse", measured, max_ndcg_loss=0.01)
    assert gate.line == (
        "ndcg_not_worse: failed: NDCG@10 0.1500, the champion's 0.2000, difference -0.0500 [-0.0600, -0.0400]; "
        "its low end may be -0.0020 (1.0% lost); missed by 0.0580"
    )


@pytest.mark.parametrize(("low", "passed"), [(0.0001, True), (0.0, False), (-0.01, False)])
def test_popularity_must_be_beaten_with_the_whole_interval(low: float, passed: bool) -> None:
    assert verdict("beats_popularity", replace(EQUAL, against_popularity=Difference(0.01, low, 0.02))).passed is passed


def test_coverage_has_an_absolute_bound_and_one_beside_the_champion() -> None:
    measured = with_challenger(coverage=0.39)
    assert verdict("coverage", measured, min_coverage=0.39).passed is True
    assert verdict("coverage", measured, min_coverage=0.40).passed is False
    kept = verdict("coverage_kept", measured, max_coverage_loss=0.2)
    assert (kept.passed, kept.bound) == (False, 0.4)
    assert verdict("coverage_kept", measured, max_coverage_loss=0.25).passed is True


def test_the_worst_segment_is_named_and_small_ones_are_not_judged() -> None:
    measured = with_challenger(segments={"new": SegmentValue(0.08, 100), "heavy": SegmentValue(0.01, 5)})
    gate = verdict("segments", measured, max_segment_loss=0.1, min_segment_users=30)
    assert (gate.passed, gate.value) == (False, pytest.approx(0.2))
    assert gate.text.startswith("new fares worst: NDCG@10 0.0800, the champion's 0.1000 (20.0% lost, of 100 users)")
    assert verdict("segments", measured, max_segment_loss=0.21).passed is True
    assert verdict("segments", measured, min_segment_users=101).passed is None


def test_popularity_is_bounded_by_histories_and_by_the_champion() -> None:
    measured = with_challenger(popularity=0.13, popularity_lift=0.6)
    assert verdict("popularity_lift", measured, max_popularity_lift=0.5).passed is False
    gain = verdict("popularity_gain", measured, max_popularity_gain=0.25)
    assert (gain.passed, gain.value) == (False, pytest.approx(0.3))
    assert verdict("popularity_gain", measured, max_popularity_gain=0.31).passed is True


def test_lists_must_be_there_and_long_enough_and_have_numbers() -> None:
    measured = with_challenger(empty_lists=1, short_lists=50, broken_scores=2)
    assert verdict("empty_lists", measured, max_empty_lists=0.0).passed is False
    assert verdict("empty_lists", measured, max_empty_lists=0.001).passed is True
    assert verdict("short_lists", measured, max_short_lists=0.05).passed is True
    assert verdict("short_lists", measured, max_short_lists=0.049).passed is False
    assert verdict("scores", measured).passed is False


def test_latency_is_bounded_in_milliseconds_and_beside_the_champion() -> None:
    measured = replace(EQUAL, challenger_latency=Latency(5.0, 12.5))
    assert verdict("latency", measured, max_latency_ms=12.5).passed is True
    assert verdict("latency", measured, max_latency_ms=12.0).text.endswith("at most 12.0 ms; missed by 0.5 ms")
    assert verdict("latency_ratio", measured, max_latency_ratio=2.0).passed is False
    assert verdict("latency_ratio", measured, max_latency_ratio=2.1).passed is True


def test_without_a_champion_what_needs_one_is_skipped_and_the_rest_judged() -> None:
    first = replace(EQUAL, champion=None, against_champion=None, champion_latency=None)
    gates = {gate.name: gate for gate in judge(first, Promotion())}
    skipped = {name for name, gate in gates.items() if gate.passed is None}
    assert skipped == {"ndcg_not_worse", "coverage_kept", "segments", "popularity_gain", "latency_ratio"}
    assert gates["ndcg_not_worse"].line == "ndcg_not_worse: skipped: there is no champion yet"
    assert failed(list(gates.values())) == []


@pytest.mark.parametrize(("incomparable", "passed"), [("refuse", False), ("skip", None)])
def test_the_configuration_decides_on_a_champion_that_cannot_be_measured(
    incomparable: str, passed: bool | None
) -> None:
    measured = replace(EQUAL, champion=None, against_champion=None, incomparable=True, no_champion="it saw the window")
    gate = verdict("ndcg_not_worse", measured, incomparable=incomparable)
    assert (gate.passed, gate.text) == (passed, "it saw the window")


def test_a_gate_without_a_bound_is_off() -> None:
    rules = Promotion(
        min_users=None, max_ndcg_loss=None, beat_popularity=False, min_coverage=None, max_coverage_loss=None,
        max_segment_loss=None,
        max_popularity_gain=None, max_empty_lists=None, max_short_lists=None, max_latency_ms=None,
        max_latency_ratio=None,
    )  # fmt: skip
    assert [gate.name for gate in judge(EQUAL, rules)] == ["scores"]


def test_a_gate_survives_json() -> None:
    for gate in judge(EQUAL, Promotion()):
        assert Gate.from_json(gate.to_json()) == gate
