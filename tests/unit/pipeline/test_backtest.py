"""Which origin may choose for which, and what the summary says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from recsys_spark.errors import UserError
from recsys_spark.pipeline.backtest import summarised
from recsys_spark.pipeline.origins import Origin, before, origins_of

DAY = 86_400


def origin(number: int, start: int, length: int = 14) -> Origin:
    return Origin(number, start * DAY, (start + length) * DAY)


def test_an_origin_takes_over_from_the_newest_whose_window_ends_by_its_moment() -> None:
    three = [origin(3, 0), origin(2, 14), origin(1, 28)]
    assert [before(each, three) for each in three] == [None, three[0], three[1]]


def test_an_origin_whose_window_overlaps_chooses_nothing() -> None:
    weekly = [origin(4, 0), origin(3, 7), origin(2, 14), origin(1, 21)]  # windows of two weeks, a week apart
    assert [before(each, weekly) for each in weekly] == [None, None, weekly[0], weekly[1]]


def test_an_origin_has_its_window_as_valid_and_all_after_it_as_test() -> None:
    cuts = origin(2, 14).cuts
    assert (cuts.valid_start, cuts.test_start, cuts.as_of) == (14 * DAY, 28 * DAY, 28 * DAY)
    assert (origin(2, 14).name, origin(2, 14).fit) == ("backtest-2", "backtest_2")


def test_origins_are_those_of_the_datasets_oldest_first_and_without_any_the_job_says_what_to_do() -> None:
    told = {f"backtest-{n}": {"valid_start": (28 - 14 * n) * DAY, "valid_end": (42 - 14 * n) * DAY} for n in (1, 2)}
    context = SimpleNamespace(facts=lambda stage: {"backtests": told})
    assert origins_of(context) == [origin(2, 0), origin(1, 14)]
    with pytest.raises(UserError, match=r"split.backtests is 0.*run jobs/build_datasets.py"):
        origins_of(SimpleNamespace(facts=lambda stage: {"backtests": {}}))


def test_the_summary_is_the_mean_and_the_least_over_the_origins() -> None:
    def row(number: int, model: str, value: float | None) -> dict[str, object]:
        return {"origin": number, "model": model, "repeats": "allow", "metric": "ndcg", "k": 10, "value": value}

    rows = [row(1, "a", 0.2), row(2, "a", 0.4), row(1, "b", 0.5), row(2, "b", None)]
    summary = summarised(rows)
    assert summary["a", "allow", "ndcg", 10] == pytest.approx((0.3, 0.2))
    assert summary["b", "allow", "ndcg", 10] == (0.5, 0.5)
