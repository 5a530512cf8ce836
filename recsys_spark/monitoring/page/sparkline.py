"""Small plots as SVG within the page: a line of thirty days, and a strip of days by status."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date

from recsys_spark.monitoring.finding import Status
from recsys_spark.reporting.html import Html, text

WIDTH, HEIGHT, EDGE = 150.0, 26.0, 3.0
"""Of a line, in pixels; dots stand up to EDGE from the border."""
CELL = 14.0
LEAST_SPAN = 0.1
"""What a line spans at least, as a share of its values: what hardly moves looks so."""
COLOURS = {"ok": "#0f766e", "warn": "#d97706", "alert": "#b91c1c"}
PALE = {"ok": "#99c9c4", "warn": "#d97706", "alert": "#b91c1c", None: "#f1f5f9"}
"""Of the strip's cells: what is well stands back; None is a day without a finding."""

Point = tuple[date, float, Status]


def line(points: Sequence[Point], first: date, days: int, limits: Iterable[float | None], says: str) -> Html:
    """Values by day as a line, dots where they are bad and on the last one, and a dashed limit where it is in sight.

    `points` are in the order of days, with finite values; days without one leave a gap. `says` is for those who cannot
    see it.
    """
    if not points:
        return Html("")
    values = [value for _, value, _ in points]
    low, high = _range(values, [limit for limit in limits if limit is not None])
    places = [(_across(day, first, days), _up(value, low, high), status) for day, value, status in points]
    parts = [_dashes(_up(limit, low, high)) for limit in limits if limit is not None and low <= limit <= high]
    parts += [
        f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in run)}"/>'
        for run in _runs(points, places)
        if len(run) > 1
    ]
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.4 if last else 1.8}" fill="{COLOURS[status]}"/>'
        for number, (x, y, status) in enumerate(places, 1)
        if (last := number == len(places)) or status != "ok"
    ]
    size = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}"'
    return Html(f'<svg class="line" role="img" aria-label="{text(says)}" {size}>{"".join(parts)}</svg>')


def strip(statuses: Sequence[tuple[date, Status | None]], says: str) -> Html:
    """A cell for each day, coloured by status; each tells its day and status to whoever points at it."""
    cells = [
        f'<rect x="{number * CELL:g}" y="0" width="{CELL - 2:g}" height="{CELL:g}" rx="2" fill="{PALE[status]}">'
        f"<title>{day}: {status or 'not monitored'}</title></rect>"
        for number, (day, status) in enumerate(statuses)
    ]
    size = f'viewBox="0 0 {len(statuses) * CELL:g} {CELL:g}" height="{CELL:g}" width="{len(statuses) * CELL:g}"'
    return Html(f'<svg class="strip" role="img" aria-label="{text(says)}" {size}>{"".join(cells)}</svg>')


def _range(values: Sequence[float], limits: Sequence[float]) -> tuple[float, float]:
    """What the plot spans: the values, and limits that are no farther from them than they are from each other."""
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    near = [limit for limit in limits if low - span <= limit <= high + span]
    low, high = min([low, *near]), max([high, *near])
    least = LEAST_SPAN * max(abs(low), abs(high)) or 1.0
    lacking = max(least - (high - low), 0.0)
    return low - lacking / 2, high + lacking / 2


def _across(day: date, first: date, days: int) -> float:
    return EDGE + (WIDTH - 2 * EDGE) * ((day - first).days / max(days - 1, 1))


def _up(value: float, low: float, high: float) -> float:
    return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (value - low) / (high - low)


def _dashes(y: float) -> str:
    return f'<path class="limit" d="M0 {y:.1f}H{WIDTH:g}"/>'


def _runs(
    points: Sequence[Point], places: Sequence[tuple[float, float, Status]]
) -> list[list[tuple[float, float, Status]]]:
    """The places in runs of days that follow each other."""
    runs: list[list[tuple[float, float, Status]]] = []
    before: date | None = None
    for (day, _, _), place in zip(points, places, strict=True):
        if before is not None and (day - before).days == 1:
            runs[-1].append(place)
        else:
            runs.append([place])
        before = day
    return runs


def finite(value: float | None) -> bool:
    """Can it be drawn."""
    return value is not None and math.isfinite(value)
