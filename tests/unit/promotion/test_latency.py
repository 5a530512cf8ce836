"""Latencies are of single users, model beside model."""

from __future__ import annotations

from typing import Any, cast

from recsys_spark.promotion.latency import latencies, percentile
from recsys_spark.recommenders.histories import RawHistory


class Slow:
    """Answers after some milliseconds of a clock that only it moves."""

    def __init__(self, clock: list[float], milliseconds: list[float]) -> None:
        self.clock, self.milliseconds, self.asked = clock, milliseconds, 0

    def recommend_histories(self, histories: list[RawHistory], k: int, repeats: str) -> None:
        assert len(histories) == 1
        self.clock[0] += self.milliseconds[self.asked % len(self.milliseconds)] / 1000
        self.asked += 1


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 95), percentile([7.0], 95)) == (50.0, 95.0, 7.0)


def test_each_model_is_timed_user_by_user_after_a_warm_up(monkeypatch: Any) -> None:
    clock = [0.0]
    monkeypatch.setattr("recsys_spark.promotion.latency.time.perf_counter", lambda: clock[0])
    fast, slow = Slow(clock, [1.0]), Slow(clock, [4.0])
    found = latencies(cast(Any, [fast, slow]), [RawHistory(("a",))] * 20, 10, "allow")
    assert found is not None
    assert [(round(each.median_ms, 6), round(each.p95_ms, 6)) for each in found] == [(1.0, 1.0), (4.0, 4.0)]
    assert (fast.asked, slow.asked) == (23, 23)
    assert latencies(cast(Any, [fast]), [], 10, "allow") is None
