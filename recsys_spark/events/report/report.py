"""The quality report as JSON, from the counts of the buckets and of the quarantine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from recsys_spark.config.quality import NULLABLE
from recsys_spark.events.types import EVENT_TYPES

SHOWN_EXAMPLES, SHOWN_FILES = 20, 100
"""Examples and broken files that a report names; their counts are of all."""
UNKNOWN_DAY = "unknown"
"""The key of rejects whose day is not known."""

ByName = dict[str, int]


@dataclass(frozen=True)
class Oddities:
    """Something met in the data: how often, and examples of it."""

    count: int = 0
    examples: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run knows of itself beside the counts."""

    rows_in: int
    """Rows that were read, and one for each broken file: its entry in quarantine stands for what could not be read."""
    items: int
    """Distinct items among the clean rows."""
    first: int | None
    """Time of the first event in microseconds since 1970, None where there is none."""
    newest: int | None
    """Time of the newest event."""
    run_days: Sequence[date] = ()
    """The days that this run recomputed, on each of which the expectations must hold; none where all is one."""
    source_files: int | None = None
    """Files that were read, where that is known."""
    broken_files: Sequence[tuple[str, str]] = ()
    """(name, reason) of each file that could not be read."""
    schemas: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Each source's columns and their types. A source's key must be the same in every run, as `source[0]` is."""
    catalogue_conflicts: Oddities = Oddities()
    """Items of which the catalogue says two things."""
    spelling_collisions: Oddities = Oddities()
    """Items that came under several spellings."""


def build_report(
    counts: Iterable[tuple[date | None, str, float]],
    rejects: Iterable[tuple[date | None, str | None, int]],
    facts: RunFacts,
) -> dict[str, Any]:
    """The report: plain JSON values, and rows_in = clean + duplicates + quarantined.

    `counts` are rows of `counts.COUNTS`, `rejects` those of `rejects_by_reason_and_day`; rows of the same day and name
    add up. Raises RuntimeError where the counts do not reconcile.
    """
    days, whole = _sums(counts)
    rejects_by_day, rejected, reasons = _rejects(rejects)
    kept, exact, near = (
        sum(day.get(name, 0) for day in days.values()) for name in ("clean", "exact_duplicates", "near_duplicates")
    )
    if facts.rows_in != kept + exact + near + rejected:
        raise RuntimeError(
            f"{facts.rows_in} rows came in, but {kept} clean, {exact + near} duplicate and {rejected} quarantined ones "
            "went out: the source changed meanwhile; run again"
        )
    total: ByName = {}
    for day in days.values():
        _add(total, day)
    delays = {int(name): count for name, count in sorted(_of("delay:", total).items(), key=lambda entry: int(entry[0]))}
    types = _types(total)
    every_day = sorted(set(days) | {day for day in rejects_by_day if day != UNKNOWN_DAY})
    return {
        "rows_in": facts.rows_in,
        "clean": kept,
        "duplicates": exact + near,
        "near_duplicates": near,
        "quarantined": rejected,
        "reconciled": True,
        "rejects_by_reason": _most_first(reasons),
        "users": whole.get("users", 0),
        "items": facts.items,
        "first_event": None if facts.first is None else iso_time(facts.first),
        "newest_event": None if facts.newest is None else iso_time(facts.newest),
        "event_types": types,
        "unknown_event_types": _most_first(_of("unknown_type:", whole)),
        "null_shares": _null_shares(total),
        "arrival_delay": {str(delay): count for delay, count in delays.items()},
        "late": _late(total),
        "late_share": share(_late(total), sum(delays.values())),
        "events_by_hour": [whole.get(f"hour:{hour}", 0) for hour in range(24)],
        "cardinalities": {
            "users": whole.get("users", 0),
            "items": facts.items,
            "event_types": len(types),
            "source_files": facts.source_files,
        },
        "broken_files": {
            "count": len(facts.broken_files),
            "files": [{"file": name, "reason": reason} for name, reason in facts.broken_files[:SHOWN_FILES]],
        },
        "catalogue_conflicts": _oddities(facts.catalogue_conflicts),
        "spelling_collisions": _oddities(facts.spelling_collisions),
        "schemas": {source: dict(columns) for source, columns in facts.schemas.items()},
        "run_days": sorted(day.isoformat() for day in facts.run_days),
        "days": [_day(day, days.get(day, {}), rejects_by_day.get(day)) for day in every_day],
        "rejects_by_day": {day: rejects_by_day[day] for day in sorted(rejects_by_day)},
    }


def report_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """The report's numbers as metrics: today's names as they are, shares and the like below `quality.`."""
    metrics = {
        name: float(report[name]) for name in ("rows_in", "clean", "duplicates", "quarantined", "users", "items")
    }
    metrics["quality.near_duplicates"] = float(report["near_duplicates"])
    metrics["quality.reject_share"] = share(report["quarantined"], report["rows_in"])
    metrics["quality.duplicate_share"] = share(report["duplicates"], report["rows_in"])
    metrics["quality.late_share"] = report["late_share"]
    for name, found in report["null_shares"].items():
        metrics[f"quality.null_share.{name}"] = found
    for name, count in report["event_types"].items():
        metrics[f"quality.type_share.{name}"] = share(count, report["clean"])
    for reason, count in report["rejects_by_reason"].items():
        metrics[f"quality.rejects.{reason}"] = float(count)
    for name in ("broken_files", "catalogue_conflicts", "spelling_collisions"):
        metrics[f"quality.{name}"] = float(report[name]["count"])
    for name in ("drift", "violations"):
        metrics[f"quality.{name}"] = float(len(report.get(name, ())))
    return metrics


def share(part: float, whole: float) -> float:
    """The part in the whole to six digits; 0 of nothing, and only of nothing, so that a limit of 0 lets none pass."""
    if not part or not whole:
        return 0.0
    return max(round(part / whole, 6), 1e-6)


def iso_time(micros: int) -> str:
    """Microseconds since 1970 as ISO 8601, UTC, without a zone."""
    return (datetime(1970, 1, 1) + timedelta(microseconds=micros)).isoformat()


def _sums(counts: Iterable[tuple[date | None, str, float]]) -> tuple[dict[str, ByName], ByName]:
    """The counts by day and name, and those of no day."""
    days: dict[str, ByName] = {}
    whole: ByName = {}
    for day, name, value in counts:
        _add(whole if day is None else days.setdefault(day.isoformat(), {}), {name: int(value)})
    return days, whole


def _rejects(rejects: Iterable[tuple[date | None, str | None, int]]) -> tuple[dict[str, Any], int, ByName]:
    """By day {rows, reasons}; the rows of all days; the rows of each reason."""
    days: dict[str, Any] = {}
    reasons: ByName = {}
    for day, reason, count in rejects:
        entry = days.setdefault(UNKNOWN_DAY if day is None else day.isoformat(), {"rows": 0, "reasons": {}})
        if reason is None:
            entry["rows"] += int(count)
        else:
            _add(entry["reasons"], {reason: int(count)})
            _add(reasons, {reason: int(count)})
    for entry in days.values():
        entry["reasons"] = _most_first(entry["reasons"])
    return days, sum(entry["rows"] for entry in days.values()), reasons


def _day(day: str, found: ByName, rejects: Mapping[str, Any] | None) -> dict[str, Any]:
    """One day: clean rows and duplicates by the event's date, rejects by the arrival's."""
    return {
        "day": day,
        "clean": found.get("clean", 0),
        "duplicates": found.get("exact_duplicates", 0) + found.get("near_duplicates", 0),
        "near_duplicates": found.get("near_duplicates", 0),
        "rejected": rejects["rows"] if rejects else 0,
        "users": found.get("users", 0),
        "event_types": _types(found),
        "null_shares": _null_shares(found),
        "late_share": share(_late(found), sum(_of("delay:", found).values())),
    }


def _types(found: ByName) -> ByName:
    return {name: found[f"type:{name}"] for name in EVENT_TYPES if found.get(f"type:{name}")}


def _null_shares(found: ByName) -> dict[str, float]:
    return {name: share(found.get(f"null:{name}", 0), found.get("clean", 0)) for name in NULLABLE}


def _late(found: ByName) -> int:
    return sum(count for delay, count in _of("delay:", found).items() if int(delay) > 0)


def _of(prefix: str, found: ByName) -> ByName:
    return {name.removeprefix(prefix): count for name, count in found.items() if name.startswith(prefix)}


def _add(into: ByName, more: ByName) -> None:
    for name, count in more.items():
        into[name] = into.get(name, 0) + count


def _most_first(counts: ByName) -> ByName:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _oddities(found: Oddities) -> dict[str, Any]:
    return {"count": found.count, "examples": list(found.examples[:SHOWN_EXAMPLES])}
