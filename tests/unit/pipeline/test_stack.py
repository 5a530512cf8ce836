"""The moments of the valid window from which the stacked fusion's users are looked at."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from recsys_spark.pipeline import stack
from recsys_spark.pipeline.stack import moments_of, moved_on
from recsys_spark.scoring.blocks import Moment

DAY = 86400
TRAIN, VALID, TEST = 0, 1, 2


def context_of(moments, stack_days=None):
    """A context with a valid window from day 100 to day 114."""
    fusion = SimpleNamespace(stack_days=stack_days, stacked=SimpleNamespace(moments=moments))
    facts = {"cut_times": {"select": 100 * DAY, "test": 114 * DAY}}
    return SimpleNamespace(config=SimpleNamespace(fusion=fusion), facts=lambda stage: facts)


@pytest.fixture
def temporal(monkeypatch):
    """Recommending for the select fit is on day 100."""
    monkeypatch.setattr(stack, "moment_of", lambda fit, context: Moment((TRAIN,), 100 * DAY))


@pytest.mark.parametrize(
    ("moments", "stack_days", "days"),
    [(1, None, [100]), (2, None, [100, 107]), (7, None, [100, 102, 104, 106, 108, 110, 112]), (2, 6, [100, 103])],
)
def test_moments_divide_what_makes_labels(temporal, moments, stack_days, days):
    assert moments_of(context_of(moments, stack_days)) == [day * DAY for day in days]


def test_a_split_by_position_has_one_moment(monkeypatch):
    monkeypatch.setattr(stack, "moment_of", lambda fit, context: Moment((TRAIN,), None))
    assert moments_of(context_of(3)) == [None]


def test_what_is_past_at_a_later_moment_is_history_and_nothing_else_moves(spark):
    rows = [(1, [90 * DAY, 106 * DAY, 107 * DAY, 120 * DAY], [TRAIN, VALID, VALID, TEST])]
    frame = spark.createDataFrame(rows, "user_index int, times array<bigint>, folds array<int>")
    moved = moved_on(frame, 107 * DAY)
    assert moved.first()["folds"] == [TRAIN, TRAIN, VALID, TEST]
    assert moved.schema["folds"].dataType == frame.schema["folds"].dataType
