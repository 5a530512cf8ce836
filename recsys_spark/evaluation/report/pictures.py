"""Which pictures a page has, and what each one says to those who cannot see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from recsys_spark.evaluation.report import plots
from recsys_spark.evaluation.report.content import FUSED, MAIN_METRIC, MODES, POPULARITY, Content, Segment
from recsys_spark.reporting.figures import png

ALSO = "recall"
"""The second metric of which there is a picture."""


@dataclass(frozen=True)
class Picture:
    """A picture, as PNG."""

    title: str
    png: bytes
    says: str
    """Its content in words."""


def draw(content: Content) -> dict[str, Picture]:
    """Name to picture, such as `ndcg`; what there is nothing of has none."""
    return {name: Picture(title, png(figure), says) for name, title, figure, says in _figures(content)}


def _figures(content: Content) -> Iterator[tuple[str, str, Figure, str]]:
    for metric in (MAIN_METRIC, ALSO):
        yield from _by_recommender(content, metric)
    yield from _differences(content)
    for dimension in content.divided:
        for mode in content.modes:
            yield from _segments(content, dimension, mode)
    if content.curves:
        said = "; ".join(_learned(curve.model, [value for _, value in curve.ndcg]) for curve in content.curves)
        yield "learning", "Learning curves", plots.learning(content.curves), said
    yield from _coverage(content)
    for mode in content.modes:
        found = [each for name in content.ordered(mode) for each in content.scores if each.model == name]
        found = [each for each in found if each.repeats == mode]
        if found:
            figure = plots.score_histograms(found)
            said = "Histograms of the scores of " + ", ".join(each.model for each in found)
            yield f"scores_{mode}", f"Scores of the lists, {MODES[mode]}", figure, said


def _by_recommender(content: Content, metric: str) -> Iterator[tuple[str, str, Figure, str]]:
    order = {mode: content.ordered(mode) for mode in content.modes}
    panels = {
        mode: sorted(content.rows(mode, metric), key=lambda row, mode=mode: order[mode].index(row.model))  # type: ignore[misc]
        for mode in content.modes
    }
    panels = {mode: rows for mode, rows in panels.items() if rows}
    if panels:
        name = plots.metric_name(metric, content.k)
        said = "; ".join(
            f"{MODES[mode]}: " + ", ".join(f"{row.model} {row.value:.4f}" for row in rows)
            for mode, rows in panels.items()
        )
        yield metric, f"{name} by recommender", plots.by_recommender(panels, name), said


def _differences(content: Content) -> Iterator[tuple[str, str, Figure, str]]:
    panels = {mode: sorted(content.against(mode), key=lambda row: row.difference) for mode in content.modes}
    panels = {mode: rows for mode, rows in panels.items() if rows}
    if panels:
        name = plots.metric_name(MAIN_METRIC, content.k)
        said = "; ".join(
            f"{MODES[mode]}: " + ", ".join(f"minus {row.against} {row.difference:+.4f} {row.verdict}" for row in rows)
            for mode, rows in panels.items()
        )
        yield "differences", f"{name} of the fusion against each", plots.differences(panels, name), said


def _segments(content: Content, dimension: str, mode: str) -> Iterator[tuple[str, str, Figure, str]]:
    rows = content.segment_rows(dimension, mode, MAIN_METRIC)
    models = shown_models(content, mode)
    rows = [row for row in rows if row.model in models]
    if rows:
        name = plots.metric_name(MAIN_METRIC, content.k)
        segments = [name for name in content.divided[dimension] if any(row.segment == name for row in rows)]
        figure = plots.by_segment(rows, segments, models, name)
        title = f"{name} by {DIMENSIONS.get(dimension, dimension)}, {MODES[mode]}"
        yield f"{dimension}_{mode}", title, figure, _said(rows)


DIMENSIONS = {
    "user_activity": "the user's activity",
    "item_age": "the item's age",
    "item_popularity": "the item's popularity",
}


def shown_models(content: Content, mode: str) -> list[str]:
    """The fusion, the best single recommender, and popularity."""
    order = content.ordered(mode)
    best = next((name for name in order if name in content.models), None)
    return [name for name in dict.fromkeys((FUSED, best, POPULARITY)) if name in order]


def _coverage(content: Content) -> Iterator[tuple[str, str, Figure, str]]:
    panels = {}
    for mode in content.modes:
        covered = {row.model: row.value for row in content.rows(mode, "coverage")}
        points = [(row.model, covered[row.model], row.value) for row in content.main(mode) if row.model in covered]
        if points:
            panels[mode] = points
    if panels:
        name = plots.metric_name(MAIN_METRIC, content.k)
        said = "; ".join(
            f"{MODES[mode]}: " + ", ".join(f"{model} covers {part:.2%}, {value:.4f}" for model, part, value in points)
            for mode, points in panels.items()
        )
        yield "coverage", "Coverage against accuracy", plots.coverage(panels, name, content.k), said


def _said(rows: Sequence[Segment]) -> str:
    return ", ".join(f"{row.model} {row.segment} {row.value:.4f}" for row in rows)


def _learned(model: str, values: Sequence[float]) -> str:
    return f"{model}: valid NDCG@10 {values[0]:.4f} at first, {max(values):.4f} at best" if values else model
