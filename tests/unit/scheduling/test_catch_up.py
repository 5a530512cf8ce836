"""Which days are done when a run catches up."""

from __future__ import annotations

from datetime import date

import pytest

from recsys_spark.scheduling.catch_up import days_to_do


def march(*days: int) -> list[date]:
    return [date(2024, 3, day) for day in days]


@pytest.mark.parametrize(
    ("last", "until", "daily", "due"),
    [
        (date(2024, 2, 28), date(2024, 3, 2), True, [date(2024, 2, 29), *march(1, 2)]),  # over the leap day
        (date(2024, 3, 1), date(2024, 3, 2), True, march(2)),
        (date(2024, 3, 2), date(2024, 3, 2), True, march(2)),
        (date(2024, 3, 9), date(2024, 3, 2), True, march(2)),
        (None, date(2024, 3, 2), True, march(2)),
        (date(2024, 2, 1), date(2024, 3, 2), False, march(2)),
    ],
)
def test_missed_days_are_done_in_order(last: date | None, until: date, daily: bool, due: list[date]) -> None:
    assert days_to_do(last, until, daily) == due
