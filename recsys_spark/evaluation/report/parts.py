"""The tables of the page."""

from __future__ import annotations

from collections.abc import Sequence

from recsys_spark.evaluation.report.content import FUSED, MAIN_METRIC, MODES, WITH_RULES, Comparison, Content, Measured
from recsys_spark.evaluation.report.plots import metric_name
from recsys_spark.reporting.html import Html, table, text

MORE_IS_BETTER = ("ndcg", "recall", "precision", "hit_rate", "map", "mrr", "coverage")


def number(value: float) -> str:
    """Four digits after the point, of large numbers one."""
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def range_of(low: float | None, high: float | None) -> str:
    """An interval in words, or nothing where there is none."""
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def metric_table(content: Content, mode: str, k: int) -> Html:
    """Every metric at K: a row a model, the best by the main metric first; intervals below the values."""
    rows = [row for row in content.metrics if (row.repeats, row.k) == (mode, k)]
    metrics = sorted({row.metric for row in rows}, key=lambda name: (_place(name), name))
    values = {(row.model, row.metric): row for row in rows}
    best = {metric: max(row.value for row in rows if row.metric == metric) for metric in metrics}
    models = [name for name in content.ordered(mode) if any(row.model == name for row in rows)]
    body = [[_name(name), *(_cell(values.get((name, metric)), best[metric]) for metric in metrics)] for name in models]
    users = max((row.users for row in rows if row.metric == MAIN_METRIC), default=0)
    caption = f"{users:,} users; in bold the largest of what is better when larger"
    head = ("recommender", *(metric.replace("_", " ") for metric in metrics))
    return table(head, body, 1, caption=caption, row_heads=True)


def _place(metric: str) -> int:
    return MORE_IS_BETTER.index(metric) if metric in MORE_IS_BETTER else len(MORE_IS_BETTER)


def _name(model: str) -> Html:
    return Html(f"<b>{text(model)}</b>") if model in (FUSED, WITH_RULES) else text(model)


def _cell(row: Measured | None, best: float) -> Html:
    if row is None:
        return Html("")
    value = number(row.value)
    shown = f"<b>{value}</b>" if row.metric in MORE_IS_BETTER and row.value == best else value
    within = range_of(row.low, row.high)
    return Html(f"{shown}<br><small>{within}</small>" if within else shown)


def comparison_table(rows: Sequence[Comparison], caption: str, *, metrics: bool = False) -> Html:
    """A row a comparison, with what it comes to in words."""
    named = {row.model for row in rows} != {FUSED}
    head = [*(["model"] if named else []), "against", *(["metric"] if metrics else [])]
    body = [
        [
            *([row.model] if named else []),
            row.against,
            *([metric_name(row.metric, row.k)] if metrics else []),
            f"{row.difference:+.4f}",
            range_of(row.low, row.high),
            "" if row.p_value is None else f"{row.p_value:.3f}",
            f"{row.users:,}",
            row.verdict,
        ]
        for row in rows
    ]
    tail = ("difference", "interval", "p", "users", "verdict")
    return table((*head, *tail), body, len(head), caption=caption, row_heads=True)


def segment_table(content: Content, dimension: str, mode: str) -> Html:
    """The main metric of every model in every segment; empty where nothing was measured."""
    rows = content.segment_rows(dimension, mode, MAIN_METRIC)
    segments = [name for name in content.divided[dimension] if any(row.segment == name for row in rows)]
    if not rows:
        return Html("")
    values = {(row.model, row.segment): row for row in rows}
    users = {row.segment: row.users for row in rows}
    best = {name: max(row.value for row in rows if row.segment == name) for name in segments}
    models = [name for name in content.ordered(mode) if any(row.model == name for row in rows)]
    body = [[_name(name), *(_cell(values.get((name, part)), best[part]) for part in segments)] for name in models]
    head = ("recommender", *(Html(f"{text(name)}<br><small>{users[name]:,} users</small>") for name in segments))
    caption = f"{metric_name(MAIN_METRIC, content.k)}, {MODES[mode]}; in bold the largest of each segment"
    return table(head, body, 1, caption=caption, row_heads=True)
