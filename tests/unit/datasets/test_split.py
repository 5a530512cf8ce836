from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pytest

from recsys_spark.config.sections import Split
from recsys_spark.datasets.split import cut_times, cuts, origins, plans, require_backtest, require_folds
from recsys_spark.errors import UserError

DAY = 86400
NEW_YEAR = 1704067200  # 2024-01-01 UTC


def test_windows_start_at_midnight_and_the_first_second_belongs_to_the_later_one() -> None:
    bounds = cuts(Split(test_start=date(2024, 1, 15), valid_days=7), datetime(2024, 2, 1))
    assert (bounds.valid_start, bounds.test_start) == (NEW_YEAR + 7 * DAY, NEW_YEAR + 14 * DAY)
    assert bounds.as_of == NEW_YEAR + 31 * DAY
    times = np.array([0, 7 * DAY - 1, 7 * DAY, 14 * DAY - 1, 14 * DAY, 30 * DAY]) + NEW_YEAR
    assert bounds.folds(times, np.array([0, 6])).tolist() == [0, 0, 1, 1, 2, 2]


def test_without_a_start_the_last_fourteen_days_are_test() -> None:
    assert cuts(Split(), datetime(2024, 1, 15)).test_start == NEW_YEAR
    assert cuts(Split(test_days=2), datetime(2024, 1, 4, 13, 30)).test_start == NEW_YEAR + DAY


def test_leave_one_out_cuts_by_position() -> None:
    bounds = cuts(Split(strategy="leave_one_out"), datetime(2024, 1, 1))
    folds = bounds.folds(np.zeros(8, dtype=np.int64), np.array([0, 1, 3, 3, 8]))
    assert folds.tolist() == [2, 1, 2, 0, 0, 0, 1, 2]


def test_recommendations_are_made_at_the_cut_or_after_the_newest_event_of_the_folds() -> None:
    spans = {0: (5, 10, 70), 1: (1, 20, 90), 2: (1, 30, 80)}
    temporal = cuts(Split(test_start=date(2024, 1, 15)), datetime(2024, 2, 1))
    assert cut_times(temporal, spans) == {
        "select": NEW_YEAR,
        "test": NEW_YEAR + 14 * DAY,
        "publish": NEW_YEAR + 31 * DAY,
    }
    assert cut_times(cuts(Split(strategy="leave_one_out"), datetime(2024, 2, 1)), spans) == {
        "select": 70,
        "test": 90,
        "publish": 90,
    }


def test_an_empty_window_is_told_with_its_dates() -> None:
    split = Split(test_start=date(2024, 1, 15), valid_days=7)
    with pytest.raises(UserError, match=r"starts on 2024-01-15 and the run's date ends at 2024-01-10"):
        cuts(split, datetime(2024, 1, 10))
    bounds = cuts(split, datetime(2024, 2, 1))
    only_later = {1: (3, NEW_YEAR + 8 * DAY, NEW_YEAR + 9 * DAY), 2: (3, NEW_YEAR + 20 * DAY, NEW_YEAR + 20 * DAY)}
    message = (
        "the train window would be empty: valid starts 2024-01-08, test starts 2024-01-15, "
        "and events run from 2024-01-09 to 2024-01-21"
    )
    with pytest.raises(UserError, match=message):
        require_folds(split, bounds, only_later)
    with pytest.raises(UserError, match="the test window would be empty"):
        require_folds(split, bounds, {0: (3, NEW_YEAR, NEW_YEAR), 1: only_later[1]})
    with pytest.raises(UserError, match="at least three events"):
        require_folds(Split(strategy="leave_one_out"), cuts(Split(strategy="leave_one_out"), datetime(2024, 1, 1)), {})


def test_each_backtest_is_one_step_earlier_and_ends_with_its_valid_window() -> None:
    split = Split(test_start=date(2024, 1, 29), valid_days=7, backtests=2)
    run, one, two = origins(split, cuts(split, datetime(2024, 2, 1)))
    assert run.valid_start == NEW_YEAR + 21 * DAY
    assert (one.valid_start, one.test_start, one.as_of) == (NEW_YEAR + 14 * DAY, *[NEW_YEAR + 21 * DAY] * 2)
    assert (two.valid_start, two.test_start, two.as_of) == (NEW_YEAR + 7 * DAY, *[NEW_YEAR + 14 * DAY] * 2)
    overlapping = origins(split.model_copy(update={"backtest_step_days": 2}), run)
    assert [own.valid_start for own in overlapping] == [NEW_YEAR + (21 - 2 * number) * DAY for number in range(3)]
    assert overlapping[2].as_of == NEW_YEAR + 24 * DAY


def test_a_fit_learns_from_its_folds_and_a_backtest_from_what_is_before_its_own_valid_window() -> None:
    split = Split(test_start=date(2024, 1, 29), valid_days=7, backtests=1)
    found = plans(split, True, origins(split, cuts(split, datetime(2024, 2, 1))), {})
    assert [(plan.fit, plan.folds, plan.validates, plan.reads) for plan in found] == [
        ("select", (0,), True, (0, 1)),
        ("test", (0, 1), False, (0, 1)),
        ("publish", (0, 1, 2), False, (0, 1, 2)),
        ("backtest-1", (0,), True, (0, 1)),
    ]
    assert [(plan.cut_time - NEW_YEAR) // DAY for plan in found] == [21, 28, 31, 14]


def test_a_backtest_with_nothing_to_learn_from_is_told_with_its_dates() -> None:
    split = Split(test_start=date(2024, 1, 29), valid_days=7, backtests=2)
    *_, two = origins(split, cuts(split, datetime(2024, 2, 1)))
    message = (
        "train window of backtest 2 would be empty: its valid window starts 2024-01-08 .* before 2024-01-15; ask for"
    )
    with pytest.raises(UserError, match=message):
        require_backtest(2, two, {1: (3, NEW_YEAR + 8 * DAY, NEW_YEAR + 9 * DAY)})
    with pytest.raises(UserError, match="the valid window of backtest 2"):
        require_backtest(2, two, {0: (3, NEW_YEAR, NEW_YEAR)})


def test_backtests_belong_to_the_temporal_strategy() -> None:
    with pytest.raises(ValueError, match="backtests belong to the temporal strategy"):
        Split(strategy="leave_one_out", backtests=1)
    with pytest.raises(ValueError, match="backtest_step_days is given without backtests"):
        Split(backtest_step_days=3)
