"""The quality report as one page that a person reads in a minute."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from recsys_spark.events.report import plots

Report = Mapping[str, Any]

SHOWN_DAYS, SHOWN_FINDINGS, SHOWN_FILES, SHOWN_VALUE = 31, 30, 20, 300
STYLE = """
:root { color-scheme: light }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: #1e293b; background: #f8fafc; margin: 0 auto; padding: 1rem;
  max-width: 50rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: .5rem 0 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem }
p, ul { margin: .3rem 0 } ul { padding-left: 1.2rem } .quiet { color: #64748b; font-size: .875rem }
.verdict { border-left: .4rem solid; border-radius: .3rem; padding: .7rem 1rem; margin: 1rem 0; background: #fff }
.verdict strong { font-size: 1.1rem }
.ok { border-color: #0f766e } .warn { border-color: #d97706 } .stop { border-color: #b91c1c }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: .8rem 0 }
.tile { flex: 1 1 7rem; background: #fff; border: 1px solid #e2e8f0; border-radius: .4rem; padding: .5rem .7rem }
.tile b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums } .tile span { font-size: .8rem }
img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid #e2e8f0; border-radius: .4rem }
.wide { overflow-x: auto; overflow-wrap: normal } table { border-collapse: collapse; font-size: .875rem; width: 100% }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #e2e8f0; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
""".strip()
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def report_page(report: Report, about: Mapping[str, str] | None = None) -> str:
    """HTML without anything from elsewhere.

    `report` is `build_report`'s, with what `drift` and `violations` found under those keys, where they were asked.
    `about` says which run this is, such as `{"run": ..., "date": ...}`. All text of the data is escaped.
    """
    said = " · ".join(f"{escape(name)} {escape(value)}" for name, value in (about or {}).items())
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Quality report {said}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head><body>',
        f'<h1>Quality of the events</h1><p class="quiet">{said}</p>',
        *_verdict(report),
        *_reconciliation(report),
        *_changes(report),
        *_pictures(report),
        *_days(report),
        *_broken_files(report),
        *_oddities(report),
        *_schemas(report),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _verdict(report: Report) -> Iterator[str]:
    stopped = report.get("violations", ())
    changes = [finding for finding in report.get("drift", ()) if finding["severity"] != "note"]
    if stopped:
        yield f'<div class="verdict stop"><strong>Stopped: nothing was published.</strong>{_list(stopped)}</div>'
    elif changes:
        some = "One change" if len(changes) == 1 else f"{len(changes)} changes"
        yield (
            f'<div class="verdict warn"><strong>Accepted. {some} since the last published run to look at.</strong>'
            f"{_list(finding['what'] for finding in changes[:SHOWN_FINDINGS])}</div>"
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
    tiles = {
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
    shown = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles.items())
    yield f'<div class="tiles">{shown}</div>'


def _changes(report: Report) -> Iterator[str]:
    findings = report.get("drift", ())
    if not findings:
        return
    yield "<h2>Since the last published run</h2>"
    rows = [
        (finding["severity"], finding["what"], _value(finding["before"]), _value(finding["now"]))
        for finding in findings[:SHOWN_FINDINGS]
    ]
    yield _table(("", "what", "before", "now"), rows)
    yield from _more(len(findings), SHOWN_FINDINGS)


def _pictures(report: Report) -> Iterator[str]:
    over = plots.steps(report)
    if over is not None:
        yield _picture(f"Events and rejects by {over.name}", plots.volume(over))
        short = "" if over.width == 1 else " The last step may be a short one."
        yield f'<p class="quiet">Clean rows and duplicates by the event\'s day, rejects by that of arrival.{short}</p>'
    if report["rejects_by_reason"]:
        yield _picture("Why rows were rejected", plots.reasons(report))
        yield '<p class="quiet">A row may have several reasons.</p>'
    if over is not None and report["clean"]:
        yield _picture(f"Event types by {over.name}", plots.type_mix(over))
        yield _picture(f"Clean rows without a value by {over.name}", plots.null_shares(over))
    if report["unknown_event_types"]:
        unknown = ", ".join(f"{name} ({count:,})" for name, count in report["unknown_event_types"].items())
        yield f'<p class="quiet">Unknown types, counted as other: {escape(unknown)}</p>'
    if report["arrival_delay"]:
        yield _picture("Arrival delay", plots.delays(report))
    if any(report["events_by_hour"]):
        yield _picture("Events by hour of the day (UTC)", plots.hours(report))


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
    yield _table(("day", "clean", "duplicates", "rejected", "users", "late"), rows, numbers_from=1)
    yield from _more(len(days), SHOWN_DAYS)


def _broken_files(report: Report) -> Iterator[str]:
    broken = report["broken_files"]
    if broken["count"]:
        yield "<h2>Broken files</h2>"
        yield _table(("file", "reason"), [(entry["file"], entry["reason"]) for entry in broken["files"][:SHOWN_FILES]])
        yield from _more(broken["count"], SHOWN_FILES)


def _oddities(report: Report) -> Iterator[str]:
    titles = {
        "catalogue_conflicts": "Items of which the catalogue says two things",
        "spelling_collisions": "Items under several spellings",
    }
    for key, title in titles.items():
        found = report[key]
        if found["count"]:
            yield f"<h2>{title}: {found['count']:,}</h2>{_list(found['examples'])}"
            yield from _more(found["count"], len(found["examples"]))


def _schemas(report: Report) -> Iterator[str]:
    for source, columns in report["schemas"].items():
        yield f"<h2>Columns of {escape(source)}</h2>{_table(('column', 'type'), list(columns.items()))}"


def _picture(title: str, png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<h2>{escape(title)}</h2><img alt="{escape(title)}" src="data:image/png;base64,{data}">'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int | None = None) -> str:
    kinds = [' class="n"' if numbers_from is not None and place >= numbers_from else "" for place in range(len(head))]
    top = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, head, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{top}</tr>\n{body}</table></div>'


def _list(entries: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(entry)}</li>" for entry in entries) + "</ul>"


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
