"""What a run of clean_events reads, writes and takes over from the version before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from recsys_spark.config.sources import Source
from recsys_spark.errors import UserError
from recsys_spark.events.arrivals import day_before, file_bytes, land, landed_source, landing_of
from recsys_spark.events.broken import Checked
from recsys_spark.events.layout import TEXT_BYTES, bucket_count
from recsys_spark.events.scope import EVERYTHING, Scope, new_arrivals, scope_of
from recsys_spark.events.sources import Broken, RawFile, source_files
from recsys_spark.pipeline.keys import code_version, files_manifest
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tables.landing import Landing, fingerprint

GROWTH = 4
"""Where the landed text asks for this many times the buckets that there are, everything is written anew."""


@dataclass(frozen=True)
class Reading:
    """One source as it is read."""

    key: str
    """Its name in the configuration."""
    source: Source
    files: tuple[RawFile, ...] | None
    """The files to read; None: what the source's paths name."""
    listed: tuple[RawFile, ...] | None = None
    """What the paths name, so that it is listed once; None for a table, and where `files` are given."""


@dataclass(frozen=True)
class Plan:
    """A run."""

    readings: tuple[Reading, ...]
    scope: Scope
    buckets: int
    previous: Path | None
    """Run directory of the version whose other days are taken over."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the next run must know of this one."""
    broken: tuple[Broken, ...] = ()
    """Files that turned out not to be readable: not among the readings' files."""

    @property
    def daily(self) -> bool:
        """Do rows arrive day by day."""
        return self.scope.days is not None

    @property
    def new_readings(self) -> tuple[Reading, ...]:
        """The readings of what no committed version has taken in; none where nothing is new."""
        if self.scope.new is None:
            return self.readings
        new = set(self.scope.new)
        fresh = [replace(each, files=tuple(f for f in each.files or () if f.arrival in new)) for each in self.readings]
        return tuple(each for each in fresh if each.files)

    def with_files(self, checked: Mapping[str, Checked]) -> Plan:
        """The plan with those files alone that can be read to their end, by the readings' keys."""
        readings = tuple(replace(each, files=checked[each.key].files) for each in self.readings)
        broken = tuple(file for each in checked.values() for file in each.broken)
        return replace(self, readings=readings, broken=(*self.broken, *broken))

    @property
    def nothing_new(self) -> bool:
        """Is there nothing to be written anew."""
        return self.previous is not None and not self.scope.days

    @property
    def days_so_far(self) -> tuple[date, ...]:
        """The days that are written, from the first arrival to the last: others cannot be expected to hold anything."""
        taken: list[str] = self.facts.get("taken_in") or [""]
        return tuple(day for day in self.scope.days or () if taken[0] <= day.isoformat() <= taken[-1])

    @property
    def replaced(self) -> set[str]:
        """Labels of the files that this run writes anew."""
        days = self.scope.days or ()
        return {day.isoformat() for day in days} | {f"arrival-{day}" for day in self.scope.new or ()}


def plan(context: StageContext) -> Plan:
    """Land what arrived, and say what is to be done. Raises UserError as `land` does."""
    config = context.config
    slots = context.spark.sparkContext.defaultParallelism
    keys = ["source" if len(config.source) == 1 else f"source[{index}]" for index in range(len(config.source))]
    if not config.daily:
        readings = tuple(_whole(context, key, source) for key, source in zip(keys, config.source, strict=True))
        buckets = config.tables.buckets or bucket_count(sum(_text_bytes(context, each) for each in readings), slots)
        return Plan(readings, EVERYTHING, buckets, None, {"buckets": buckets})
    return _daily_plan(context, keys, slots)


def _whole(context: StageContext, key: str, source: Source) -> Reading:
    """A source that is read as its paths name it."""
    if source.format in ("table", "jdbc"):
        return Reading(key, source, None)
    return Reading(key, source, None, tuple(source_files(context.spark, source, f"{key} {', '.join(source.paths)}")))


def _daily_plan(context: StageContext, keys: Sequence[str], slots: int) -> Plan:
    """The plan of a run that takes in what has arrived since the version before."""
    config = context.config
    rules = _rules(context)
    published = context.previous if context.previous and "taken_in" in context.previous.facts else None
    had = {date.fromisoformat(day) for day in published.facts["taken_in"]} if published else set()
    before = None if context.force else published
    if before is not None and before.facts["rules"] != rules:
        context.progress("the rules or the code changed since the last version: every landed day is cleaned anew")
        before = None
    landings = _land(context, keys, had)
    generations = [landing.generations() for landing in landings]
    until = None if context.as_of is None else day_before(context.as_of)
    landed = sorted({day for each in generations for day in each})
    new = [
        day
        for day in new_arrivals(generations, None if before is None else before.facts["arrivals"])
        if until is None or day <= until
    ]
    buckets = config.tables.buckets or bucket_count(_landed_bytes(config.source, landings, landed), slots)
    if before is not None:
        if config.tables.buckets is None and buckets < GROWTH * before.facts["buckets"]:
            buckets = before.facts["buckets"]
        older = any(day < date.fromisoformat(known) for day in new for known in before.facts["taken_in"])
        if buckets != before.facts["buckets"] or (older and config.cleaning.outliers.kinds):
            before = None
    if until is not None and until in landed:
        new = sorted({*new, until})  # asked for by name: its days are written again
    if before is None:
        new = [day for day in landed if until is None or day <= until or day in had]
        lost = sorted(had - set(landed))
        if lost and not context.force:
            raise UserError(
                f"{context.workspace.root}/landing: {lost[0]} and {len(lost) - 1} more arrival dates are gone, from "
                "which published tables were made, and all must be cleaned anew; restore them, or go on with --force"
            )
        if not new:
            raise UserError(f"{', '.join(keys)}: nothing has landed up to {until}; check path, arrival and --date")
    known = set(new) if before is None else had | set(new)
    scope = scope_of(known, new, config.cleaning)
    assert scope.arrivals is not None
    readings = tuple(
        Reading(key, *landed_source(source, landing, scope.arrivals))
        for key, source, landing in zip(keys, config.source, landings, strict=True)
    )
    # A delivery that this run does not take in stays new: its date keeps the manifest that was taken in before, or 0.
    old = [{}] * len(generations) if before is None else before.facts["arrivals"]
    fresh = set(new)
    taken = [
        {day: number if day in fresh else was.get(day.isoformat(), 0) for day, number in each.items() if day in known}
        for each, was in zip(generations, old, strict=True)
    ]
    facts = {
        "buckets": buckets,
        "rules": rules,
        "arrivals": fingerprint(taken),
        "taken_in": sorted(day.isoformat() for day in known),
    }
    return Plan(readings, scope, buckets, None if before is None else Path(before.directory), facts)


def _land(context: StageContext, keys: Sequence[str], published: set[date]) -> list[Landing]:
    until = None if context.as_of is None else day_before(context.as_of)
    landings = []
    for key, source in zip(keys, context.config.source, strict=True):
        landing = landing_of(context.workspace.root, source)
        land(context.spark, source, key, landing, until, published, context.force, context.progress)
        landings.append(landing)
    return landings


def _rules(context: StageContext) -> str:
    """What the clean days depend on besides the rows: the configured rules and this code."""
    config = context.config
    settings = config.model_dump(mode="json", include={"source", "cleaning", "catalog"})
    listed = config.cleaning.blocked_items_file
    read = [Path(listed).read_text(encoding="utf-8")] if listed and Path(listed).is_file() else []
    read_by_rules = config.catalog if config.cleaning.forbidden_text else None
    files = read_by_rules is not None and read_by_rules.format not in ("table", "jdbc")
    catalogue = files_manifest([read_by_rules]) if files and read_by_rules is not None else []
    return hashlib.sha256(json.dumps([settings, read, catalogue, code_version()], sort_keys=True).encode()).hexdigest()


def _text_bytes(context: StageContext, reading: Reading) -> int:
    """Text that a source holds, roughly; a table's is not known: as if it were small."""
    format_ = reading.source.format
    return sum(file_bytes(context.spark, file) * text_factor(format_, file.name) for file in reading.listed or ())


def _landed_bytes(sources: Sequence[Source], landings: Sequence[Landing], days: Sequence[date]) -> int:
    return sum(
        landed.bytes * text_factor("parquet" if source.format in ("table", "jdbc") else source.format, landed.name)
        for source, landing in zip(sources, landings, strict=True)
        for day in days
        for landed in landing.files(day)
    )


def text_factor(format_: str, name: str) -> int:
    """Bytes of text for each byte of a file."""
    return 4 if name.endswith((".gz", ".bz2", ".zst")) else TEXT_BYTES.get(format_, 1)
