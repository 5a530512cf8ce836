"""What changed between the report of the last published run and this one's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from recsys_spark.config.quality import Quality
from recsys_spark.events.report.report import share

Severity = Literal["note", "warn", "stop"]
Report = Mapping[str, Any]

NOTED_MIX = 0.1
"""Total variation distance of event types from which a change is worth a warning."""
NOTED_VOLUME = 2.0
"""A day this many times larger or smaller than the mean day before is worth a warning."""
NOTED_NULLS = 0.1
"""Difference of a null share that is worth a warning."""


class Finding(TypedDict):
    """One change. `key` is the setting below `quality` that judges it, empty where none does."""

    what: str
    before: Any
    now: Any
    severity: Severity
    key: str


def drift(report: Report, previous: Report | None, quality: Quality) -> list[Finding]:
    """The findings, those that stop the publication first; none where there is no previous report.

    A part that the previous report lacks (an older version wrote it) is not compared.
    """
    if previous is None:
        return []
    findings = [
        *_schemas(report, previous, quality),
        *_type_mix(report, previous, quality),
        *_new_types(report, previous),
        *_volume(report, previous, quality),
        *_null_shares(report, previous, quality),
    ]
    order = ("stop", "warn", "note")
    return sorted(findings, key=lambda finding: order.index(finding["severity"]))


def type_mix_distance(counts: Mapping[str, int], before: Mapping[str, int]) -> float:
    """Total variation distance of two distributions: half the sum of differences of shares, from 0 to 1."""
    total, total_before = sum(counts.values()), sum(before.values())
    if not total or not total_before:
        return 0.0
    names = sorted(set(counts) | set(before))
    return round(sum(abs(counts.get(n, 0) / total - before.get(n, 0) / total_before) for n in names) / 2, 6)


def mean_day(report: Report) -> float:
    """Clean events of a mean day that has any, 0 where there is none."""
    volumes = [day["clean"] for day in report.get("days", ()) if day["clean"]]
    return sum(volumes) / len(volumes) if volumes else 0.0


def _schemas(report: Report, previous: Report, quality: Quality) -> list[Finding]:
    """Columns of each source that were added, removed or retyped, and sources that came or went."""
    if "schemas" not in previous or quality.schema_drift == "allow":
        return []
    severity: Severity = "stop" if quality.schema_drift == "stop" else "warn"
    key = "schema_drift"
    findings: list[Finding] = []
    for source in sorted(set(report["schemas"]) | set(previous["schemas"])):
        now, before = report["schemas"].get(source), previous["schemas"].get(source)
        if now is None or before is None:
            # Which sources there are is the configuration's word, not the data's.
            what = f"source {source} {'is new' if before is None else 'is gone'}"
            findings.append(_finding(what, before and sorted(before), now and sorted(now), "note"))
            continue
        for column in sorted(set(now) | set(before)):
            old, new = before.get(column), now.get(column)
            if old != new:
                change = "was added" if old is None else "was removed" if new is None else "has another type"
                findings.append(_finding(f"column {column!r} of source {source} {change}", old, new, severity, key))
    return findings


def _type_mix(report: Report, previous: Report, quality: Quality) -> list[Finding]:
    """The event types' shares against those before: of the whole run, and of the computed day that is furthest off."""
    before, key = previous["event_types"], "max_type_mix_change"
    computed = set(report["run_days"])
    days = [day for day in report["days"] if day["day"] in computed and day["clean"] >= quality.judge_days_from]
    findings = []
    for mixes in ({"the run": report["event_types"]}, {day["day"]: day["event_types"] for day in days}):
        changes = {name: type_mix_distance(counts, before) for name, counts in mixes.items()}
        judged = {name: _severity(change, NOTED_MIX, quality.max_type_mix_change) for name, change in changes.items()}
        off = [name for name, severity in judged.items() if severity]
        if off:
            worst = max(off, key=lambda name: changes[name])
            of = named(worst, len(off) - 1)
            what = f"the event types of {of} are distributed otherwise (distance {changes[worst]:.3g})"
            findings.append(_finding(what, _shares(before), _shares(mixes[worst]), judged[worst] or "note", key))
    return findings


def _new_types(report: Report, previous: Report) -> list[Finding]:
    if "unknown_event_types" not in previous:
        return []
    known = sorted({*previous["event_types"], *previous["unknown_event_types"]})
    return [
        _finding(f"event type {name!r} is new", 0, count, "warn")
        for name, count in {**report["event_types"], **report["unknown_event_types"]}.items()
        if name not in known
    ]


def _volume(report: Report, previous: Report, quality: Quality) -> list[Finding]:
    """Clean events against the mean day before: of the computed days that are furthest off, else of the mean day."""
    before = mean_day(previous)
    if not before:
        return []
    days = {day["day"]: day["clean"] for day in report["days"]}
    computed = [(day, float(days.get(day, 0))) for day in report["run_days"]]
    off: dict[tuple[Severity, str], list[tuple[str, float]]] = {}
    for day, volume in computed or [("the run's mean day", mean_day(report))]:
        judged = _volume_severity(volume / before, quality)
        if judged:
            off.setdefault(judged, []).append((day, volume))
    findings = []
    for (severity, key), found in off.items():
        furthest = min if key == "min_share_of_previous" else max
        day, volume = furthest(found, key=lambda entry: entry[1])
        has = f"{named(day, len(found) - 1)} has {volume / before:.3g} times the events of a mean day before"
        findings.append(_finding(has, round(before, 1), round(volume, 1), severity, key))
    return findings


def _volume_severity(times: float, quality: Quality) -> tuple[Severity, str] | None:
    """How bad that many times the mean day before are, and the setting that judges it."""
    least, most = quality.min_share_of_previous, quality.max_share_of_previous
    if least is not None and times < least:
        return "stop", "min_share_of_previous"
    if most is not None and times > most:
        return "stop", "max_share_of_previous"
    if times < 1 / NOTED_VOLUME:
        return "warn", "min_share_of_previous"
    return ("warn", "max_share_of_previous") if times > NOTED_VOLUME else None


def _null_shares(report: Report, previous: Report, quality: Quality) -> list[Finding]:
    findings = []
    for name, now in report["null_shares"].items():
        before = previous["null_shares"].get(name, now)
        severity = _severity(round(abs(now - before), 6), NOTED_NULLS, quality.max_null_share_change)
        if severity:
            what = f"{name} is null {'more' if now > before else 'less'} often"
            findings.append(_finding(what, before, now, severity, "max_null_share_change"))
    return findings


def _severity(change: float, noted: float, limit: float | None) -> Severity | None:
    if limit is not None and change > limit:
        return "stop"
    return "warn" if change > noted else None


def named(day: str, others: int) -> str:
    """`2024-01-05`, or `2024-01-05 (and 3 more days)`."""
    return f"{day} (and {others} more day{'s' if others > 1 else ''})" if others else day


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: share(count, total) for name, count in counts.items()}


def _finding(what: str, before: Any, now: Any, severity: Severity, key: str = "") -> Finding:
    return {"what": what, "before": before, "now": now, "severity": severity, "key": key}


def stops(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stop the publication."""
    return [finding for finding in findings if finding["severity"] == "stop"]
