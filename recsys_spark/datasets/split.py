"""How a history is divided into train (0), valid (1) and test (2), and which fits learn from what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys_spark.errors import UserError

if TYPE_CHECKING:  # Python workers import this module, and need no configuration
    from recsys_spark.config.sections import Split

DEFAULT_TEST_DAYS = 14
TRAIN, VALID, TEST = 0, 1, 2
FOLD_NAMES = ("train", "valid", "test")
FIT_FOLDS: dict[str, tuple[int, ...]] = {"select": (TRAIN,), "test": (TRAIN, VALID), "publish": (TRAIN, VALID, TEST)}
"""The folds whose events a fit's datasets hold."""
Spans = Mapping[int, tuple[int, int, int]]
"""Fold to (events, first, last time in epoch seconds), of the folds that have events."""


@dataclass(frozen=True)
class Cuts:
    """Where the folds begin and end, in epoch seconds; no starts for leave_one_out, which cuts by position."""

    as_of: int
    """Events at or after it are in no fold."""
    valid_start: int | None = None
    test_start: int | None = None

    def folds(self, times: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The fold of each event; user u owns events offsets[u] to offsets[u+1], oldest first."""
        if self.valid_start is not None:
            assert self.test_start is not None
            return (times >= self.valid_start).astype(np.int32) + (times >= self.test_start)
        from_end = np.repeat(offsets[1:], np.diff(offsets)) - np.arange(len(times)) - 1
        return np.clip(TEST - from_end, TRAIN, TEST).astype(np.int32)


@dataclass(frozen=True)
class Plan:
    """What the datasets of one fit are made from."""

    fit: str
    """select, test, publish, or backtest-<n>: their folder's name."""
    origin: int
    """0: folds as in the table histories; n: those of the nth backtest."""
    cuts: Cuts
    """Of its origin."""
    folds: tuple[int, ...]
    """Folds that it learns from."""
    cut_time: int
    """End of these folds in epoch seconds."""

    @property
    def validates(self) -> bool:
        """Has it a dataset of valid users, since it does not learn from the valid fold."""
        return VALID not in self.folds

    @property
    def reads(self) -> tuple[int, ...]:
        """Folds that its files depend on."""
        return (*self.folds, VALID) if self.validates else self.folds


def cuts(split: Split, as_of: datetime) -> Cuts:
    """The cuts of a run whose events end before as_of (UTC, naive).

    Windows begin at midnight UTC: test_days are counted back from the day that as_of ends or stands in. Raises
    UserError where the test window would end before it starts.
    """
    end = _seconds(as_of)
    if split.strategy == "leave_one_out":
        return Cuts(as_of=end)
    test_day = split.test_start or (as_of - timedelta(days=split.test_days or DEFAULT_TEST_DAYS)).date()
    if _midnight(test_day) >= end:
        raise UserError(
            f"split: the test window would be empty: it starts on {test_day} and the run's date ends at {as_of}; "
            "set an earlier split.test_start or a later --date"
        )
    valid_day = test_day - timedelta(days=split.valid_days)
    return Cuts(as_of=end, valid_start=_midnight(valid_day), test_start=_midnight(test_day))


def origins(split: Split, bounds: Cuts) -> tuple[Cuts, ...]:
    """The run's own cuts, and then those of each backtest, one step earlier than the one before.

    A backtest knows of nothing after its valid window: its as_of is its test_start.
    """
    found = [bounds]
    for number in range(1, split.backtests + 1):
        assert bounds.valid_start is not None, "leave_one_out has no backtests"
        start = bounds.valid_start - number * (split.backtest_step_days or split.valid_days) * 86_400
        end = start + split.valid_days * 86_400
        found.append(Cuts(as_of=end, valid_start=start, test_start=end))
    return tuple(found)


def require_folds(split: Split, cuts: Cuts, spans: Spans) -> None:
    """Raise UserError where a fold has no event."""
    missing = [FOLD_NAMES[fold] for fold in (TRAIN, VALID, TEST) if fold not in spans]
    if not missing:
        return
    if split.strategy == "leave_one_out":
        raise UserError(
            f"split: the {missing[0]} fold would be empty: leave_one_out needs users with at least three events; "
            "use the temporal strategy or more events"
        )
    assert cuts.valid_start is not None
    assert cuts.test_start is not None
    first, last = min(span[1] for span in spans.values()), max(span[2] for span in spans.values())
    raise UserError(
        f"split: the {missing[0]} window would be empty: valid starts {_day(cuts.valid_start)}, test starts "
        f"{_day(cuts.test_start)}, and events run from {_day(first)} to {_day(last)}; "
        "set split.test_start (or test_days) and split.valid_days inside that span"
    )


def require_backtest(number: int, cuts: Cuts, spans: Spans) -> None:
    """Raise UserError where a backtest has no event to learn from, or none to be measured on."""
    missing = [FOLD_NAMES[fold] for fold in (TRAIN, VALID) if fold not in spans]
    if missing:
        assert cuts.valid_start is not None
        raise UserError(
            f"split.backtests: the {missing[0]} window of backtest {number} would be empty: its valid window starts "
            f"{_day(cuts.valid_start)} and ends before {_day(cuts.as_of)}; ask for fewer backtests or a shorter "
            "split.backtest_step_days"
        )


def plans(split: Split, refit: bool, origins: tuple[Cuts, ...], spans: Spans) -> tuple[Plan, ...]:
    """The fits of a run: select, with `refit` test, publish, and the backtests."""
    moments = cut_times(origins[0], spans)
    fits = ("select", "test", "publish") if refit else ("select", "publish")
    found = [Plan(fit, 0, origins[0], FIT_FOLDS[fit], moments[fit]) for fit in fits]
    for number, own in enumerate(origins[1:], 1):
        assert own.valid_start is not None
        found.append(Plan(f"backtest-{number}", number, own, (TRAIN,), own.valid_start))
    return tuple(found)


def cut_times(cuts: Cuts, spans: Spans) -> dict[str, int]:
    """The moment of recommendation of each fit, in epoch seconds: select, test, publish."""
    if cuts.valid_start is not None and cuts.test_start is not None:
        return {"select": cuts.valid_start, "test": cuts.test_start, "publish": cuts.as_of}
    return {fit: max(spans[fold][2] for fold in folds) for fit, folds in FIT_FOLDS.items()}


def iso(seconds: int | None) -> str | None:
    """Epoch seconds as ISO 8601, UTC, without a zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _seconds(moment: datetime) -> int:
    return ceil(moment.replace(tzinfo=UTC).timestamp())


def _midnight(day: date) -> int:
    return _seconds(datetime.combine(day, time()))


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
