"""Pictures of an evaluation. Points stand with their intervals; axes of metrics begin at zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recsys_spark.evaluation.report.content import (
    FUSED,
    MODES,
    WITH_RULES,
    Comparison,
    Curve,
    Histogram,
    Measured,
    Segment,
)
from recsys_spark.reporting.figures import FONT, legend, new_figure, plain

FUSED_COLOUR, BETTER, WORSE, OTHER = "#c2410c", "#0f766e", "#b91c1c", "#64748b"
SHOWN_COLOURS = (FUSED_COLOUR, "#1d4ed8", OTHER)
SHOWN_MARKS = ("o", "s", "^")
SHORT = ("ndcg", "map", "mrr", "ips", "snips")
"""Metrics whose names are made of initials."""
ROW, AROUND = 0.24, 0.6
"""Inches of a row of a panel, and of all around the rows."""
LABEL_GAP = 0.075
"""Of a panel's height, between two names of points."""
MAX_POINTS = 400
"""Points of a curve that are drawn: of a longer one, every nth."""


def metric_name(metric: str, k: int) -> str:
    """`NDCG@10`, `Hit rate@10`."""
    return f"{metric.upper() if metric in SHORT else metric.replace('_', ' ').capitalize()}@{k}"


def by_recommender(panels: Mapping[str, Sequence[Measured]], name: str) -> Figure:
    """Points with intervals, a panel a mode of repeats: each one's rows are in the order given, the first on top."""
    figure, grid = _panels(list(map(len, panels.values())))
    for axes, (mode, rows) in zip(grid, panels.items(), strict=True):
        for place, row in enumerate(rows):
            colour = FUSED_COLOUR if row.model in (FUSED, WITH_RULES) else OTHER
            _point(axes, row.value, row.low, row.high, place, colour, f"{row.value:.4f}")
        _rows(axes, [plain(row.model) for row in rows])
        axes.set_xlim(0, 1.15 * max((row.high or row.value for row in rows), default=1.0) or 1.0)
        axes.set_xlabel(f"{name}, {MODES[mode]}, {_users(rows)}", fontsize=FONT)
    return figure


def differences(panels: Mapping[str, Sequence[Comparison]], name: str) -> Figure:
    """The fusion's metric minus each recommender's, a panel a mode; right of the line the fusion is better."""
    figure, grid = _panels(list(map(len, panels.values())))
    colours = {"better": BETTER, "worse": WORSE}
    for axes, (mode, rows) in zip(grid, panels.items(), strict=True):
        axes.axvline(0, color="#1e293b", lw=1)
        for place, row in enumerate(rows):
            _point(axes, row.difference, row.low, row.high, place, colours.get(row.verdict, OTHER))
        _rows(axes, [plain(row.against) for row in rows])
        axes.set_xlabel(f"{name}: fused minus each, {MODES[mode]}, {_users(rows)}", fontsize=FONT)
    return figure


def by_segment(rows: Sequence[Segment], segments: Sequence[str], models: Sequence[str], name: str) -> Figure:
    """Points with intervals of up to three models, a group a segment; users of a segment stand below its name."""
    figure = new_figure(2.6)
    axes = figure.subplots()
    found = {(row.model, row.segment): row for row in rows}
    users = {row.segment: row.users for row in rows}
    for number, model in enumerate(models):
        own = [(place, found[model, segment]) for place, segment in enumerate(segments) if (model, segment) in found]
        axes.errorbar(
            [place + 0.16 * (number - (len(models) - 1) / 2) for place, _ in own],
            [row.value for _, row in own],
            yerr=_spread([(row.value, row.low, row.high) for _, row in own]),
            fmt=SHOWN_MARKS[number],
            color=SHOWN_COLOURS[number],
            label=plain(model),
            ms=5,
            capsize=3,
            lw=1.2,
        )
    axes.set_xticks(
        range(len(segments)), [f"{plain(segment)}\n{users.get(segment, 0):,} users" for segment in segments]
    )
    axes.set_xlim(-0.5, len(segments) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(name, fontsize=FONT)
    legend(axes)
    return figure


def learning(curves: Sequence[Curve]) -> Figure:
    """Training loss and valid NDCG@10 by steps, a row a recommender; each on a scale of its own."""
    figure = new_figure(0.4 + 1.35 * len(curves))
    grid = figure.subplots(len(curves), 2, squeeze=False, sharex="row")
    for (left, right), curve in zip(grid, curves, strict=True):
        left.plot(*_thinned(curve.loss), color=OTHER, lw=1.2)
        right.plot(*_thinned(curve.ndcg), color=FUSED_COLOUR, lw=1.2, marker="o", ms=3)
        left.set_ylabel(plain(curve.model), fontsize=FONT)
        right.set_ylim(bottom=0)
        best = curve.ndcg[curve.best_epoch - 1] if curve.best_epoch and curve.best_epoch <= len(curve.ndcg) else None
        if best:
            right.axvline(best[0], color=BETTER, lw=1, ls="--")
            right.annotate(f"epoch {curve.best_epoch}", (best[0], 0), (3, 3), textcoords="offset points", fontsize=FONT)
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
    grid[0][0].set_title("training loss", fontsize=FONT)
    grid[0][1].set_title("valid NDCG@10", fontsize=FONT)
    for axes in grid[-1]:
        axes.set_xlabel("steps", fontsize=FONT)
    return figure


def coverage(panels: Mapping[str, Sequence[tuple[str, float, float]]], name: str, k: int) -> Figure:
    """Accuracy over coverage, a panel a mode: (model, coverage, accuracy) of each."""
    figure = new_figure(2.9 * len(panels))
    for axes, (mode, points) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        for model, covered, value in points:
            colour = FUSED_COLOUR if model in (FUSED, WITH_RULES) else OTHER
            axes.plot(covered, value, "o", ms=5, color=colour, clip_on=False)
        axes.set_xlim(0, 1.35 * max((covered for _, covered, _ in points), default=1.0) or 1.0)
        axes.set_ylim(0, 1.15 * max((value for _, _, value in points), default=1.0) or 1.0)
        _labels(axes, points)
        axes.set_xlabel(f"coverage@{k}: share of the catalogue in some list, {MODES[mode]}", fontsize=FONT)
        axes.set_ylabel(name, fontsize=FONT)
    return figure


def score_histograms(histograms: Sequence[Histogram]) -> Figure:
    """The share of scores in each bin, all places of the lists filled and first places as a line; a panel a model."""
    rows = -(-len(histograms) // 2)
    figure = new_figure(0.5 + 1.5 * rows)
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, found in zip(grid, histograms, strict=False):
        axes.stairs(
            found.counts / max(1, found.rows), found.edges, fill=True, color="#cbd5e1", label="all places", lw=0
        )
        axes.stairs(found.firsts / max(1, found.lists), found.edges, color=FUSED_COLOUR, label="first places", lw=1.2)
        axes.set_title(f"{plain(found.model)}: {found.rows:,} scores", fontsize=FONT)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(3))
    for axes in grid[len(histograms) :]:
        axes.set_visible(False)
    figure.supxlabel("score", fontsize=FONT)
    figure.supylabel("share of scores in a bin", fontsize=FONT)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False, fontsize=FONT)
    return figure


def _panels(counts: Sequence[int]) -> tuple[Figure, list[Axes]]:
    """A picture with a panel of so many rows each, below each other."""
    figure = new_figure(sum(AROUND + ROW * count for count in counts))
    return figure, list(figure.subplots(len(counts), 1, squeeze=False, height_ratios=[1 + n for n in counts])[:, 0])


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color="#e2e8f0", lw=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _point(
    axes: Axes, value: float, low: float | None, high: float | None, place: int, colour: str, said: str = ""
) -> None:
    """A point in the row `place`, with its interval where it has one, and a word to the right of it."""
    axes.errorbar(value, place, xerr=_spread([(value, low, high)]), fmt="o", color=colour, ms=4, capsize=3, lw=1.4)
    end = value if high is None else max(value, high)
    axes.annotate(said, (end, place), (5, 0), textcoords="offset points", va="center", fontsize=FONT - 1)


def _spread(values: Sequence[tuple[float, float | None, float | None]]) -> np.ndarray | None:
    """[2, N] lengths of the error bars; None where nothing has an interval. A bar never has a length below zero."""
    if all(low is None or high is None for _, low, high in values):
        return None
    sides = [
        (0.0, 0.0) if low is None or high is None else (max(0.0, value - low), max(0.0, high - value))
        for value, low, high in values
    ]
    return np.array(sides).T


def _users(rows: Sequence[Measured] | Sequence[Comparison]) -> str:
    counts = sorted({row.users for row in rows})
    if not counts:
        return "no users"
    return f"{counts[0]:,} users" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,} users"


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    shown = points[:: max(1, -(-len(points) // MAX_POINTS))]
    return [step for step, _ in shown], [value for _, value in shown]


def _labels(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Each point's name to its right, pushed up where another name or point stands; a thin line leads to it."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[1]
    dots = [(covered / width, value / height) for _, covered, value in points]
    placed: list[tuple[float, float]] = []
    for name, covered, value in sorted(points, key=lambda point: (point[2], point[1])):
        x, y = covered / width + 0.02, value / height
        for _ in range(2 * len(points)):
            higher = _above(x, y, placed, 0.28, LABEL_GAP) + _above(x + 0.1, y, dots, 0.1, LABEL_GAP / 2)
            if not higher:
                break
            y = max(higher)
        placed.append((x, y))
        axes.annotate(
            plain(name),
            (covered, value),
            (x, y),
            textcoords="axes fraction",
            va="center",
            fontsize=FONT,
            arrowprops={"arrowstyle": "-", "color": "#cbd5e1", "shrinkA": 0, "shrinkB": 2},
        )


def _above(x: float, y: float, others: Sequence[tuple[float, float]], beside: float, gap: float) -> list[float]:
    """Heights just above those of the others that stand within `beside` and `gap` of (x, y)."""
    return [high + gap for left, high in others if abs(left - x) < beside and abs(high - y) < gap - 1e-9]
