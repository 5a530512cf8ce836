"""Whether a run meets the expectations of `quality`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recsys_spark.config.quality import Quality
from recsys_spark.errors import UserError
from recsys_spark.events.report.drift import named, stops
from recsys_spark.events.report.report import share

Report = Mapping[str, Any]


@dataclass(frozen=True)
class _Scope:
    """What shares are taken of: the whole run or one day."""

    name: str
    clean: int
    duplicates: int
    rejected: int
    reasons: Mapping[str, int]
    null_shares: Mapping[str, float]
    late_share: float

    @property
    def rows(self) -> int:
        return self.clean + self.duplicates + self.rejected


@dataclass(frozen=True)
class _MaxShare:
    """A share that may not be exceeded."""

    key: str
    limit: float
    what: str
    remedy: str
    found: Callable[[_Scope], float]


def violations(report: Report, quality: Quality) -> list[str]:
    """One sentence for each expectation that the run or one of its days does not meet; none where all is well.

    `report["drift"]`, where it is there, is what `drift.drift` found under the same `quality`.
    """
    return [
        *_minima(report, quality),
        *_shares(report, quality),
        *_broken_files(report, quality),
        *_drift(report, quality),
    ]


def check_reasons(quality: Quality, known: Collection[str]) -> None:
    """Raise UserError where a reason is limited that no rule gives: a misspelt one would never stop anything."""
    unknown = sorted(set(quality.max_reject_share_by_reason) - set(known))
    if unknown:
        raise UserError(
            f"quality.max_reject_share_by_reason: no rule rejects for {', '.join(map(repr, unknown))}; "
            f"reasons are {', '.join(sorted(known))}"
        )


def _minima(report: Report, quality: Quality) -> Iterator[str]:
    for key, limit, found, of in (
        ("min_events", quality.min_events, report["clean"], "clean events"),
        ("min_users", quality.min_users, report["users"], "users"),
        ("min_items", quality.min_items, report["items"], "items"),
    ):
        if limit is not None and found < limit:
            yield f"quality.{key} is {limit:,}, but the run has {found:,} {of}; {COMPLETE.format(key=key)}"
    least = quality.min_events_per_day
    if least is not None:
        days = {day["day"]: day["clean"] for day in report["days"]}
        short = {day: days.get(day, 0) for day in report["run_days"] if days.get(day, 0) < least}
        if short:
            worst = min(short, key=lambda day: short[day])
            where = named(worst, len(short) - 1)
            yield (
                f"quality.min_events_per_day is {least:,}, but {where} has {short[worst]:,} clean events; "
                f"{COMPLETE.format(key='min_events_per_day')}"
            )


def _shares(report: Report, quality: Quality) -> Iterator[str]:
    whole = _whole(report)
    days = [day for day in _days(report) if day.rows >= quality.judge_days_from]
    for rule in _max_shares(quality):
        if rule.found(whole) > rule.limit:
            yield _sentence(rule, "the run", rule.found(whole))
        bad = [day for day in days if rule.found(day) > rule.limit]
        if bad:
            worst = max(bad, key=rule.found)
            yield _sentence(rule, named(worst.name, len(bad) - 1), rule.found(worst))


def _max_shares(quality: Quality) -> Iterator[_MaxShare]:
    """The configured limits."""
    if quality.max_reject_share is not None:
        yield _MaxShare(
            "max_reject_share",
            quality.max_reject_share,
            "of the rows of {where} were rejected",
            "see the reasons in the quality report and correct the source",
            lambda scope: share(scope.rejected, scope.rows),
        )
    for reason, limit in quality.max_reject_share_by_reason.items():
        yield _MaxShare(
            f"max_reject_share_by_reason.{reason}",
            limit,
            f"of the rows of {{where}} were rejected for {_literal(reason)}",
            "correct the source",
            lambda scope, reason=reason: share(scope.reasons.get(reason, 0), scope.rows),  # type: ignore[misc]
        )
    if quality.max_duplicate_share is not None:
        yield _MaxShare(
            "max_duplicate_share",
            quality.max_duplicate_share,
            "of the rows of {where} are duplicates",
            "see whether files were delivered twice",
            lambda scope: share(scope.duplicates, scope.rows),
        )
    for column, limit in quality.max_null_share.items():
        yield _MaxShare(
            f"max_null_share.{column}",
            limit,
            f"of the clean events of {{where}} have no {column}",
            "correct the source or how its columns are mapped",
            lambda scope, column=column: scope.null_shares.get(column, 0.0),  # type: ignore[misc]
        )
    if quality.max_late_share is not None:
        yield _MaxShare(
            "max_late_share",
            quality.max_late_share,
            "of the clean events of {where} arrived after their day",
            "see what held them up",
            lambda scope: scope.late_share,
        )


def _sentence(rule: _MaxShare, where: str, found: float) -> str:
    what = rule.what.format(where=where)
    return f"quality.{rule.key} is {rule.limit:g}, but {found:g} {what}; {rule.remedy}, or raise the limit"


def _broken_files(report: Report, quality: Quality) -> Iterator[str]:
    most, broken = quality.max_broken_files, report["broken_files"]
    if most is not None and broken["count"] > most:
        first = broken["files"][0]
        more = f" and {broken['count'] - 1} more" if broken["count"] > 1 else ""
        yield (
            f"quality.max_broken_files is {most}, but {first['file']} ({first['reason']}){more} cannot be read; "
            "deliver again what is broken, or raise the limit"
        )


def _drift(report: Report, quality: Quality) -> Iterator[str]:
    for finding in stops(report.get("drift", ())):
        key = finding["key"]
        before, now = (_short(finding[side]) for side in ("before", "now"))
        yield (
            f"quality.{key} is {_setting(getattr(quality, key))}, but {finding['what']}: {before} in the last "
            f"published run, {now} now; see whether the source is right, or change quality.{key}"
        )


def _whole(report: Report) -> _Scope:
    return _Scope(
        "the run",
        report["clean"],
        report["duplicates"],
        report["quarantined"],
        report["rejects_by_reason"],
        report["null_shares"],
        report["late_share"],
    )


def _days(report: Report) -> Iterator[_Scope]:
    """The days that the run computed and that have rows."""
    computed = set(report["run_days"])
    for day in report["days"]:
        if day["day"] in computed:
            reasons = report["rejects_by_day"].get(day["day"], {"reasons": {}})["reasons"]
            yield _Scope(
                day["day"],
                day["clean"],
                day["duplicates"],
                day["rejected"],
                reasons,
                day["null_shares"],
                day["late_share"],
            )


COMPLETE = "see whether all files have come, or lower quality.{key}"


def _literal(text: str) -> str:
    """The text as it stands where `format` is called on it."""
    return text.replace("{", "{{").replace("}", "}}")


def _short(value: Any) -> str:
    """A value of a finding on one line."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry:.3g}" for name, entry in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
    return str(value)


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
