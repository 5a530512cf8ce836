"""Measures against limits: `ok`, `warn` or `alert`, with a sentence each. Nothing here reads or writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from recsys_spark.monitoring.finding import STATUSES, Finding, Measure, Status
from recsys_spark.monitoring.kinds import KINDS, Form, Kind, Limit

LONGEST = 400
"""Characters of a sentence that are kept."""


def judge(measures: Iterable[Measure], limits: Mapping[str, Limit], kinds: Mapping[str, Kind] = KINDS) -> list[Finding]:
    """A finding of each measure, the worst first and otherwise as they came.

    `limits` has those that differ from a kind's defaults, by the kind's key. A measure without a value, or on fewer
    rows than its kind wants, is `ok` and its sentence says so. Raises KeyError for a measure of no kind.
    """
    found = [_judged(measure, kinds[measure.key], limits.get(measure.key)) for measure in measures]
    return sorted(found, key=lambda finding: -STATUSES.index(finding.status))


def _judged(measure: Measure, kind: Kind, limit: Limit | None) -> Finding:
    if measure.value is None:
        why = f": {measure.detail}" if measure.detail else ""
        return Finding(measure, "ok", _one_line(f"{kind.named(measure.subject)}: not measured{why}"))
    said = sentence(measure, kind)
    if measure.rows is not None and measure.rows < kind.least_rows:
        few = f"not judged on {measure.rows:,} rows, fewer than {kind.least_rows:,}"
        return Finding(measure, "ok", _one_line(f"{said} ({few})"))
    used = limit or kind.limit
    status: Status = "ok"
    for name, bound in (("warn", used.warn), ("alert", used.alert)):
        if bound is not None and beyond(measure.value, bound, kind):
            status = "alert" if name == "alert" else "warn"
    if status == "ok":
        return Finding(measure, status, _one_line(said))
    bound = used.alert if status == "alert" else used.warn
    assert bound is not None, "it was passed"
    return Finding(measure, status, _one_line(f"{said}; {_limit(bound, kind)}: {kind.look}"))


def beyond(value: float, bound: float, kind: Kind) -> bool:
    """Is a value worse than a limit: at the limit it is not."""
    if kind.bad == "low":
        return value < bound
    if kind.bad == "both":
        return value <= 0 or max(value, 1 / value) > bound
    return value > bound


def sentence(measure: Measure, kind: Kind) -> str:
    """The kind's sentence with the measure's numbers, without a verdict."""
    words = {
        "value": written(measure.value, kind.form),
        "reference": written(measure.reference, kind.usual_form),
        "rows": "?" if measure.rows is None else f"{measure.rows:,}",
        "detail": measure.detail,
    }
    return f"{kind.named(measure.subject)}: {kind.sentence.format_map(words)}"


def written(value: float | None, form: Form) -> str:
    """A number as a person reads it: to three digits, counts in full."""
    if value is None:
        return "unknown"
    if math.isinf(value):
        return "infinite"
    if form == "share":
        return f"{100 * value:.3g} %"
    plain = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{plain} times" if form == "times" else plain


def _limit(bound: float, kind: Kind) -> str:
    if kind.bad == "both":
        return f"limit {bound:.3g} times more or less"
    return f"{'least' if kind.bad == 'low' else 'most'} is {written(bound, kind.form)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:LONGEST]
