"""What the pictures draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from recsys_spark.evaluation.report import plots
from recsys_spark.evaluation.report.content import Curve
from tests.unit.evaluation.report.example import VALUES, WIDTH, compared, content, measured


def points(axes: Axes) -> list[tuple[float, float]]:
    """(x, y) of each point that has an error bar, or would have one."""
    return [(float(x), float(y)) for bar in axes.containers for x, y in zip(*bar.lines[0].get_data(), strict=True)]


def intervals(axes: Axes) -> list[list[float]]:
    """x of the ends of each horizontal error bar."""
    return [sorted(line[:, 0].tolist()) for bar in axes.containers for line in bar.lines[2][0].get_segments()]


def test_metrics_are_points_with_their_intervals_on_an_axis_from_zero() -> None:
    rows = [measured(name) for name in ("fused", "gru", "popularity")]
    [axes] = plots.by_recommender({"allow": rows}, "NDCG@10").axes
    assert points(axes) == [(0.375, 0), (0.25, 1), (0.125, 2)]
    assert intervals(axes) == [[VALUES[row.model] - WIDTH, VALUES[row.model] + WIDTH] for row in rows]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fused", "gru", "popularity"]
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > 0.375 + WIDTH
    assert axes.get_xlabel() == "NDCG@10, repeats allowed, 1,234 users"
    top, bottom = axes.get_ylim()[1], axes.get_ylim()[0]
    assert top < 0 < 2 < bottom  # the first row is on top, and all are seen


def test_without_intervals_points_stand_alone() -> None:
    rows = [replace(measured("gru"), low=None, high=None), replace(measured("gru"), value=0.0, low=None, high=None)]
    [axes] = plots.by_recommender({"drop": rows}, "NDCG@10").axes
    assert points(axes) == [(0.25, 0), (0.0, 1)]
    assert all(len(bar.lines[2]) == 0 for bar in axes.containers)


def test_metrics_have_the_names_that_people_know() -> None:
    assert [plots.metric_name(name, 5) for name in ("ndcg", "mrr", "hit_rate")] == ["NDCG@5", "MRR@5", "Hit rate@5"]


def test_each_mode_has_a_panel() -> None:
    panels = {"allow": [measured("gru")], "drop": [measured("fused", "drop"), measured("gru", "drop")]}
    figure = plots.by_recommender(panels, "NDCG@10")
    assert [len(points(axes)) for axes in figure.axes] == [1, 2]


def test_differences_are_coloured_by_what_they_prove() -> None:
    rows = [compared("a", 0.25), compared("b", 0.0), compared("c", -0.25)]
    [axes] = plots.differences({"allow": rows}, "NDCG@10").axes
    assert points(axes) == [(0.25, 0), (0.0, 1), (-0.25, 2)]
    assert [to_hex(bar.lines[0].get_color()) for bar in axes.containers] == [plots.BETTER, plots.OTHER, plots.WORSE]
    zero = axes.lines[0].get_xdata()
    assert list(zero) == [0, 0]


def test_segments_keep_their_order_and_tell_their_users() -> None:
    rows = content().segments
    [axes] = plots.by_segment(rows, ("new", "heavy"), ["fused", "gru", "popularity"], "NDCG@10").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["new\n11 users", "heavy\n22 users"]
    values = [value for _, value in points(axes)]
    assert values == [0.375, 0.375, 0.25, 0.25, 0.125, 0.125]
    places = [round(place) for place, _ in points(axes)]
    assert places == [0, 1] * 3
    assert axes.get_ylim()[0] == 0


def test_long_curves_are_thinned_and_the_best_epoch_is_marked() -> None:
    long = Curve(
        model="gru",
        loss=[(step, 1.0) for step in range(1, 5001)],
        ndcg=[(100, 0.1), (200, 0.3), (300, 0.2)],
        best_epoch=2,
    )
    left, right = plots.learning([long]).axes
    assert len(left.lines[0].get_xdata()) <= plots.MAX_POINTS
    assert list(right.lines[0].get_ydata()) == [0.1, 0.3, 0.2]
    assert list(right.lines[1].get_xdata()) == [200, 200]


def test_a_histogram_shows_shares_of_all_scores_and_of_first_places() -> None:
    axes = plots.score_histograms(content().scores).axes[0]
    every, firsts = axes.patches
    np.testing.assert_allclose(every.get_data().values, [0.6, 0.2])
    np.testing.assert_allclose(firsts.get_data().values, [0.5, 0.5])
    assert axes.get_title() == "gru: 10 scores"


def test_names_of_points_that_lie_together_do_not_cover_each_other() -> None:
    near = [(f"model {number}", 0.1, 0.2 + 0.0001 * number) for number in range(6)]
    [axes] = plots.coverage({"allow": near}, "NDCG@10", 10).axes
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert len(heights) == 6
    assert min(np.diff(heights)) == pytest.approx(plots.LABEL_GAP)
    assert (axes.get_xlim()[0], axes.get_ylim()[0]) == (0, 0)
