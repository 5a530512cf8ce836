"""The page of a monitored day, as HTML that stands alone: read in a minute, from the verdict down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from recsys_spark.monitoring.actions import how_to_go_on, named
from recsys_spark.monitoring.alerting import counted
from recsys_spark.monitoring.finding import GROUPS, STATUSES, Finding, Group
from recsys_spark.monitoring.judging import written
from recsys_spark.monitoring.page.changes import better, moved, worse
from recsys_spark.monitoring.page.content import Content, Series
from recsys_spark.monitoring.page.sparkline import finite, line, strip
from recsys_spark.reporting.html import Html, bullets, details, document, quiet, section, table, text

STYLE = """
body { max-width: 60rem } .line polyline { fill: none; stroke: #475569; stroke-width: 1.3 }
.line .limit { stroke: #94a3b8; stroke-dasharray: 3 3 } svg { display: block }
.now { white-space: nowrap; font-weight: 600 } .now.ok { color: #0f766e; font-weight: inherit }
.now.warn { color: #b45309 } .now.alert { color: #b91c1c } td { vertical-align: middle }
details { margin: .4rem 0 } summary { cursor: pointer; color: #475569; font-size: .875rem }
section[id] > .wide > table { table-layout: fixed; min-width: 44rem } section[id] > .wide th:first-child { width: 28% }
section[id] > .wide th:nth-child(2) { width: 11.2rem } section[id] > .wide th:nth-child(4) { width: 5.5rem }
section[id] > .wide th:nth-child(5) { width: 10.5rem } section[id] > .wide th:last-child { width: 7rem }
.wide > table.days { min-width: 0; table-layout: auto } section[id] > .wide > table.days th { width: auto }
table.days td, table.days th { border: 0; padding: .1rem .4rem .1rem 0 } table.days { width: auto }
"""
SHOWN = 6
"""Subjects of a kind that are shown at once; the others are a press away."""
MOST_TOLD = 8
"""Findings that the verdict tells in full: what changed should be in sight, too."""
VERDICTS = {"alert": "stop", "warn": "warn", "ok": "ok"}
WORDS = {"alert": "● alert", "warn": "▲ warning", "ok": "ok"}
CHANGES = "What changed"


def monitoring_page(content: Content) -> str:
    """HTML without scripts and without anything from elsewhere; all text of the data is escaped."""
    said = " · ".join(f"{name} {value}" for name, value in content.about.items())
    body = [
        f"<h1>Monitoring of {content.day}</h1>{quiet(said)}",
        *_verdict(content),
        *_held(content),
        '<main><section id="changes">',
        *_changes(content),
        "</section>",
        section("days", f"The last {content.days} days", [_calendar(content)]),
        *_groups(content),
        "</main>",
    ]
    return document("Monitoring", f"of {content.day}: {counted(content.today)}", body, STYLE)


def _verdict(content: Content) -> Iterator[str]:
    bad = [one for one in content.today if one.status != "ok"]
    worst = bad[0].status if bad else "ok"
    measured = f"{len(content.today)} measures" if content.today else "nothing was measured"
    sentences = [Html(f"{_status(one)} {text(one.sentence)}") for one in bad[:MOST_TOLD]]
    if len(bad) > MOST_TOLD:
        sentences.append(text(f"and {len(bad) - MOST_TOLD} more, see below"))
    yield (
        f'<div class="verdict {VERDICTS[worst]}"><strong>{text(counted(bad))}</strong> <small>{measured}</small>'
        f"{bullets(sentences) if sentences else ''}</div>"
    )


def _held(content: Content) -> Iterator[str]:
    if content.held:
        said = f"Publication is held up by {named(content.held)}. {how_to_go_on(content.held)}"
        yield f'<div class="verdict stop"><strong>Publication is held up</strong><p>{text(said)}.</p></div>'


def _changes(content: Content) -> Iterator[str]:
    """News against the monitored day before, then what moved most although it is well."""
    before = content.before
    yield f"<h2>{CHANGES}</h2>"
    if before is None:
        yield quiet("The first monitored day: there is nothing yet that it could be compared with.")
        return
    lines = [Html(f"<b>new since {before}:</b> {_status(one)} {_title(content, one)}") for one in worse(content)]
    lines += [
        Html(f"<b>over since {before}:</b> {_title(content, one)}, which was {_status(gone)}, is {_status(one)}")
        for gone, one in better(content)
    ]
    lines += [
        Html(
            f"<b>moved:</b> {text(each.series.title)}: {written(each.value, each.series.kind.form)}, usually "
            f"{written(each.usual, each.series.kind.form)}"
        )
        for each in moved(content)
    ]
    yield bullets(lines) if lines else quiet(f"No verdict changed since {before}, and nothing moved much.")


def _calendar(content: Content) -> Html:
    """A row of cells for each group that was measured, the oldest day first."""
    days = [content.first + timedelta(days=number) for number in range(content.days)]
    rows = []
    for group in GROUPS:
        if content.of_group(group):
            statuses = [(day, content.worst(group, day)) for day in days]
            bad = [f"{day} {status}" for day, status in statuses if status in ("warn", "alert")]
            cells = strip(statuses, f"{group.capitalize()}, {days[0]} to {days[-1]}: {', '.join(bad) or 'all well'}")
            rows.append(f'<tr><th scope="row"><a href="#{group}">{group.capitalize()}</a></th><td>{cells}</td></tr>')
    legend = quiet(f"{days[0]} to {days[-1]}. Red: an alert; orange: a warning; green: well; grey: not monitored.")
    return Html(f'<div class="wide"><table class="days"><tbody>{"".join(rows)}</tbody></table></div>{legend}')


def _groups(content: Content) -> Iterator[str]:
    for group in GROUPS:
        series = [one for one in content.of_group(group) if one.on(content.day)]
        if series:
            yield section(group, group.capitalize(), _tables(content, series, group))


def _tables(content: Content, series: Iterable[Series], group: Group) -> Iterator[str]:
    """The worst first; of a kind with many subjects the worst, and the others in what opens when it is pressed."""
    kinds = list(content.kinds)
    order = sorted(
        series,
        key=lambda one: (
            -STATUSES.index(one.status(content.day) or "ok"),
            kinds.index(one.kind.key),
            -one.badness(content.day),
        ),
    )
    shown: list[Series] = []
    more: list[Series] = []
    seen: dict[str, int] = {}
    for one in order:
        seen[one.kind.key] = seen.get(one.kind.key, 0) + 1
        (shown if seen[one.kind.key] <= SHOWN or one.status(content.day) != "ok" else more).append(one)
    yield _table(content, shown)
    if more:
        yield details(f"{len(more)} further measures of {group}, all well", [_table(content, more)])


def _table(content: Content, series: Iterable[Series]) -> Html:
    head = ("measure", f"last {content.days} days", "value", "usual", "warning, alert at", "")
    return table(head, [_row(content, one) for one in series], row_heads=True)


def _row(content: Content, series: Series) -> tuple[object, ...]:
    kind, limit, found = series.kind, content.limit(series.kind), series.on(content.day)
    assert found is not None, "only what was measured on the day is shown"
    measure = found.measure
    bounds = ["none" if bound is None else written(bound, kind.form) for bound in (limit.warn, limit.alert)]
    bounded = "never" if bounds == ["none", "none"] else ", ".join(bounds)
    usual = "" if measure.reference is None else written(measure.reference, kind.usual_form)
    value = "not measured" if measure.value is None else written(measure.value, kind.form)
    name = Html(f'{text(series.title)}<br><small title="{text(found.sentence)}">{text(kind.key)}</small>')
    return name, _plot(content, series, value), value, usual, bounded, _status(found)


def _plot(content: Content, series: Series, newest: str) -> Html:
    limit = content.limit(series.kind)
    points = [
        (one.measure.day, float(one.measure.value or 0.0), one.status)
        for one in series.findings
        if finite(one.measure.value)
    ]
    says = f"{series.title}: {len(points)} days, the newest value is {newest}"
    return line(points, content.first, content.days, (limit.warn, limit.alert), says)


def _title(content: Content, finding: Finding) -> Html:
    return text(content.kinds[finding.measure.key].named(finding.measure.subject))


def _status(finding: Finding) -> Html:
    return Html(f'<span class="now {finding.status}">{WORDS[finding.status]}</span>')
