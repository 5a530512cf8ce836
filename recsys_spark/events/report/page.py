"""The quality report as one page that a person reads in a minute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from recsys_spark.events.report import plots
from recsys_spark.reporting.html import bullets, document, picture, table, tiles

Report = Mapping[str, Any]

SHOWN_DAYS, SHOWN_FINDINGS, SHOWN_FILES, SHOWN_VALUE = 31, 30, 20, 300


def report_page(report: Report, about: Mapping[str, str] | None = None) -> str:
    """HTML without anything from elsewhere.

    `report` is `build_report`'s, with what `drift` and `violations` found under those keys, where they were asked.
    `about` says which run this is, such as `{"run": ..., "date": ...}`. All text of the data is escaped.
    """
    said = " · ".join(f"{name} {value}" for name, value in (about or {}).items())
    body = [
        f'<h1>Quality of the events</h1><p class="quiet">{escape(said)}</p>',
        *_verdict(report),
        *_reconciliation(report),
        *_changes(report),
        *_pictures(report),
        *_days(report),
        *_broken_files(report),
        *_oddities(report),
        *_schemas(report),
    ]
    return document("Quality report", said, body)


def _verdict(report: Report) -> Iterator[str]:
    stopped = report.get("violations", ())
    changes = [finding for finding in report.get("drift", ()) if finding["severity"] != "note"]
    if stopped:
        yield f'<div class="verdict stop"><strong>Stopped: nothing was published.</strong>{bullets(stopped)}</div>'
    elif changes:
        some = "One change" if len(changes) == 1 else f"{len(changes)} changes"
        yield (
            f'<div class="verdict warn"><strong>Accepted. {some} since the last published run to look at.</strong>'
            f"{bullets(finding['what'] for finding in changes[:SHOWN_FINDINGS])}</div>"
        )
    else:
        yield '<div class="verdict ok"><strong>Accepted: no expectation was missed.</strong></div>'


def _reconciliation(report: Report) -> Iterator[str]:
    rows = report["rows_in"]
    exact = report["duplicates"] - report["near_duplicates"]
    yield (
        f"<p><b>{rows:,}</b> rows in = <b>{report['clean']:,}</b> clean + <b>{report['duplicates']:,}</b> duplicates "
        f"({exact:,} exact, {report['near_duplicates']:,} near) + <b>{report['quarantined']:,}</b> quarantined.</p>"
    )
    if report["first_event"]:
        first, newest = (escape(report[name]).replace("T", " ") for name in ("first_event", "newest_event"))
        yield f'<p class="quiet">Events from {first} to {newest} (UTC).</p>'
    files = report["cardinalities"]["source_files"]
    numbers = {
        "clean": _percent(report["clean"], rows),
        "duplicates": _percent(report["duplicates"], rows),
        "quarantined": _percent(report["quarantined"], rows),
        "arrived late": f"{report['late_share']:.2%}",
        "users": f"{report['users']:,}",
        "items": f"{report['items']:,}",
        "event types": f"{report['cardinalities']['event_types']:,}",
        **({} if files is None else {"source files": f"{files:,}"}),
        "broken files": f"{report['broken_files']['count']:,}",
    }
    yield tiles(numbers.items())


def _changes(report: Report) -> Iterator[str]:
    findings = report.get("drift", ())
    if not findings:
        return
    yield "<h2>Since the last published run</h2>"
    rows = [
        (finding["severity"], finding["what"], _value(finding["before"]), _value(finding["now"]))
        for finding in findings[:SHOWN_FINDINGS]
    ]
    yield table(("", "what", "before", "now"), rows)
    yield from _more(len(findings), SHOWN_FINDINGS)


def _pictures(report: Report) -> Iterator[str]:
    over = plots.steps(report)
    if over is not None:
        yield picture(f"Events and rejects by {over.name}", plots.volume(over))
        short = "" if over.width == 1 else " The last step may be a short one."
        yield f'<p class="quiet">Clean rows and duplicates by the event\'s day, rejects by that of arrival.{short}</p>'
    if report["rejects_by_reason"]:
        yield picture("Why rows were rejected", plots.reasons(report))
        yield '<p class="quiet">A row may have several reasons.</p>'
    if over is not None and report["clean"]:
        yield picture(f"Event types by {over.name}", plots.type_mix(over))
        yield picture(f"Clean rows without a value by {over.name}", plots.null_shares(over))
    if report["unknown_event_types"]:
        unknown = ", ".join(f"{name} ({count:,})" for name, count in report["unknown_event_types"].items())
        yield f'<p class="quiet">Unknown types, counted as other: {escape(unknown)}</p>'
    if report["arrival_delay"]:
        yield picture("Arrival delay", plots.delays(report))
    if any(report["events_by_hour"]):
        yield picture("Events by hour of the day (UTC)", plots.hours(report))


def _days(report: Report) -> Iterator[str]:
    days = report["days"]
    if not days:
        return
    yield "<h2>The newest days</h2>"
    rows = [
        (
            day["day"],
            *(f"{day[name]:,}" for name in ("clean", "duplicates", "rejected", "users")),
            f"{day['late_share']:.2%}",
        )
        for day in reversed(days[-SHOWN_DAYS:])
    ]
    yield table(("day", "clean", "duplicates", "rejected", "users", "late"), rows, numbers_from=1)
    yield from _more(len(days), SHOWN_DAYS)


def _broken_files(report: Report) -> Iterator[str]:
    broken = report["broken_files"]
    if broken["count"]:
        yield "<h2>Broken files</h2>"
        yield table(("file", "reason"), [(entry["file"], entry["reason"]) for entry in broken["files"][:SHOWN_FILES]])
        yield from _more(broken["count"], SHOWN_FILES)


def _oddities(report: Report) -> Iterator[str]:
    titles = {
        "catalogue_conflicts": "Items of which the catalogue says two things",
        "spelling_collisions": "Items under several spellings",
    }
    for key, title in titles.items():
        found = report[key]
        if found["count"]:
            yield f"<h2>{title}: {found['count']:,}</h2>{bullets(found['examples'])}"
            yield from _more(found["count"], len(found["examples"]))


def _schemas(report: Report) -> Iterator[str]:
    for source, columns in report["schemas"].items():
        yield f"<h2>Columns of {escape(source)}</h2>{table(('column', 'type'), list(columns.items()))}"


def _more(count: int, shown: int) -> Iterator[str]:
    if count > shown:
        yield f'<p class="quiet">and {count - shown:,} more, see report.json</p>'


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "0.00%"


def _value(value: Any) -> str:
    """A finding's value in a few words."""
    if value is None:
        return "–"  # noqa: RUF001
    if isinstance(value, Mapping):
        text = ", ".join(f"{name} {_value(entry)}" for name, entry in value.items())
    elif isinstance(value, (list, tuple)):
        text = ", ".join(map(str, value))
    elif isinstance(value, (int, float)):
        text = f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    else:
        text = str(value)
    return text if len(text) <= SHOWN_VALUE else f"{text[: SHOWN_VALUE - 1]}…"
