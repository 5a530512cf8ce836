"""Pictures of a quality report, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from recsys_spark.config.quality import NULLABLE
from recsys_spark.events.report.counts import EARLY, MAX_DELAY
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.reporting.figures import FONT, legend, new_figure, plain, png

MAX_STEPS = 400
"""Days that are drawn one by one; a longer time is drawn by weeks, or by as many weeks as it takes."""
SHOWN_REASONS = 12
CLEAN, DUPLICATE, REJECTED = "#0f766e", "#d97706", "#b91c1c"
TYPE_COLOURS = dict(zip(EVENT_TYPES, ("#94a3b8", "#38bdf8", "#6366f1", "#f59e0b", "#0f766e", "#db2777"), strict=True))
STACKED = (*EVENT_TYPES[1:], EVENT_TYPES[0])
"""Event types from below, `other` on top."""
COLUMN_COLOURS = dict(zip(NULLABLE, ("#6366f1", "#0f766e", "#d97706"), strict=True))

Report = Mapping[str, Any]
Day = Mapping[str, Any]


@dataclass(frozen=True)
class Steps:
    """The time of a report, cut into days, weeks or longer steps."""

    days: Sequence[Day]
    places: NDArray[np.int64]
    """The step of each day."""
    edges: NDArray[np.int64]
    """Where steps begin and the last one ends, in days since 1970."""

    @property
    def width(self) -> int:
        """Days of a step."""
        return int(self.edges[1] - self.edges[0])

    @property
    def name(self) -> str:
        """`day`, `week`, or `4 weeks`."""
        weeks = self.width // 7
        return {0: "day", 1: "week"}.get(weeks, f"{weeks} weeks")

    def sums(self, value: Callable[[Day], float]) -> NDArray[np.float64]:
        """The sum of a day's value over each step, 0 where there is no day."""
        values = np.fromiter((value(day) for day in self.days), np.float64, len(self.days))
        return np.bincount(self.places, values, minlength=len(self.edges) - 1).astype(np.float64)


def steps(report: Report) -> Steps | None:
    """The steps of a report's days, at most MAX_STEPS; None where it has no day."""
    days = report["days"]
    if not days:
        return None
    numbers = np.array([date.fromisoformat(day["day"]).toordinal() for day in days]) - date(1970, 1, 1).toordinal()
    first, span = int(numbers.min()), int(numbers.max() - numbers.min()) + 1
    width = 1 if span <= MAX_STEPS else 7 * -(-span // (7 * MAX_STEPS))
    count = -(-span // width)
    return Steps(days, (numbers - first) // width, first + width * np.arange(count + 1))


def volume(over: Steps) -> bytes:
    """Clean rows and duplicates above, rejected rows on a scale of their own below."""
    figure = new_figure(3.9)
    axes = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    clean = over.sums(lambda day: day["clean"])
    duplicates = over.sums(lambda day: day["duplicates"])
    _stack(axes[0], over, {"clean": clean, "duplicates": duplicates}, {"clean": CLEAN, "duplicates": DUPLICATE})
    rejected = over.sums(lambda day: day["rejected"])
    _stack(axes[1], over, {"rejected": rejected}, {"rejected": REJECTED})
    for panel in axes:
        panel.yaxis.set_major_formatter(_counts())
    return png(figure)


def reasons(report: Report) -> bytes:
    """The most frequent reasons for a row's rejection."""
    shown = list(report["rejects_by_reason"].items())[:SHOWN_REASONS]
    figure = new_figure(0.8 + 0.28 * len(shown))
    axes = figure.subplots()
    bars = axes.barh([plain(name) for name, _ in shown], [count for _, count in shown], color=REJECTED, height=0.6)
    axes.bar_label(bars, [f"{count:,}" for _, count in shown], padding=4, fontsize=FONT)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.xaxis.set_major_formatter(_counts())
    return png(figure)


def type_mix(over: Steps) -> bytes:
    """Each event type's share of the clean rows over time."""
    counts = {name: over.sums(lambda day, name=name: day["event_types"].get(name, 0)) for name in STACKED}  # type: ignore[misc]
    counts = {name: values for name, values in counts.items() if values.any()}
    total = sum(counts.values(), np.zeros(len(over.edges) - 1))
    figure = new_figure(2.5)
    axes = figure.subplots()
    _stack(axes, over, {name: _ratio(values, total, 0.0) for name, values in counts.items()}, TYPE_COLOURS)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    return png(figure)


def null_shares(over: Steps) -> bytes:
    """The share of clean rows without a quantity, price or order over time; gaps where there are no rows."""
    clean = over.sums(lambda day: day["clean"])
    figure = new_figure(2.5)
    axes = figure.subplots()
    for name in NULLABLE:
        nulls = over.sums(lambda day, name=name: day["clean"] * day["null_shares"][name])  # type: ignore[misc]
        axes.stairs(
            _ratio(nulls, clean, np.nan), over.edges, baseline=None, color=COLUMN_COLOURS[name], label=name, lw=1.6
        )
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _dates(axes, over)
    legend(axes)
    return png(figure)


def delays(report: Report) -> bytes:
    """The share of clean rows by whole days from event to arrival, on a logarithmic scale."""
    counts = {int(delay): count for delay, count in report["arrival_delay"].items()}
    names = {EARLY: "before", MAX_DELAY: f"{MAX_DELAY}+"}
    total = sum(counts.values())
    shares = [count / total for count in counts.values()]
    figure = new_figure(2.2)
    axes = figure.subplots()
    colours = [CLEAN if delay == 0 else DUPLICATE for delay in counts]
    bars = axes.bar([names.get(delay, str(delay)) for delay in counts], shares, color=colours, width=0.7)
    if len(counts) <= 12:
        axes.bar_label(bars, [f"{found:.2%}" for found in shares], padding=2, fontsize=FONT)
    axes.set_yscale("log")
    axes.set_ylim(min(shares) / 3, 3)
    axes.set_xlim(-0.6, max(len(counts), 5) - 0.4)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlabel("days from event to arrival", fontsize=FONT)
    return png(figure)


def hours(report: Report) -> bytes:
    """Clean rows by hour of the day."""
    figure = new_figure(2.0)
    axes = figure.subplots()
    axes.bar(range(24), report["events_by_hour"], color=CLEAN, width=0.8)
    axes.set_xticks(range(0, 24, 3), [f"{hour:02d}:00" for hour in range(0, 24, 3)])
    axes.set_xlim(-0.7, 23.7)
    axes.yaxis.set_major_formatter(_counts())
    return png(figure)


def _stack(axes: Axes, over: Steps, layers: Mapping[str, NDArray[np.float64]], colours: Mapping[str, str]) -> None:
    """Filled steps, each layer on top of those before."""
    below = np.zeros(len(over.edges) - 1)
    for name, values in layers.items():
        axes.stairs(below + values, over.edges, baseline=below, fill=True, color=colours[name], label=name, lw=0)
        below = below + values
    axes.set_ylim(bottom=0)
    _dates(axes, over)
    legend(axes)


def _dates(axes: Axes, over: Steps) -> None:
    # Short of midnight: a tick on the first of the next month would name that month.
    axes.set_xlim(over.edges[0], over.edges[-1] - 0.01)
    locator = AutoDateLocator(minticks=2, maxticks=8)
    axes.xaxis_date()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(FONT)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], of_nothing: float) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(whole.shape, of_nothing), where=whole > 0)


def _counts() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:,.0f}" if value == round(value) else "")
