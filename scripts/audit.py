"""List the known vulnerabilities of the locked dependencies (constraints.txt).

`python scripts/audit.py`: asks the databases of pip-audit (PyPI's, then OSV's). `python scripts/audit.py --advisories
all.zip` asks no network: the file is OSV's export of the ecosystem PyPI (a zip of JSON files, which OSV publishes for
download), or a folder of such files.

Exit 0: all were looked up, and nothing is known that is not accepted. 1: something is known. 3: some could not be
looked up (an advisory that cannot be read counts as that), and of them nothing is known either way: "none" is only said
of what was looked up. What is accepted stands
in scripts/audit_accepted.txt, a line each: id, the last day on which it is accepted, why.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

HERE = Path(__file__).resolve().parent
LOCK, ACCEPTED = HERE.parent / "constraints.txt", HERE / "audit_accepted.txt"
SERVICES = ("pypi", "osv")
EDGES = ("introduced", "fixed", "last_affected")
"""The events of a range that move its edge; others (`limit`) say nothing of a version."""
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OSError, zipfile.BadZipFile, zlib.error)
"""What reading and judging a damaged or unexpected advisory ends in."""


@dataclass(frozen=True)
class Found:
    """A vulnerability of a locked version."""

    name: str
    version: str
    id: str
    fixed: str


@dataclass(frozen=True)
class Answer:
    """What a database says."""

    source: str
    looked_up: int
    found: tuple[Found, ...]
    unknown: tuple[str, ...] = ()
    """Packages that it does not know, and advisories that cannot be read: of them it says nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is known; returns the exit code."""
    parser = argparse.ArgumentParser(description="List the known vulnerabilities of the locked dependencies.")
    parser.add_argument("--advisories", type=Path, help="OSV's export for PyPI: a zip, or a folder of JSON files")
    options = parser.parse_args(arguments)
    lock = locked(LOCK.read_text(encoding="utf-8"))
    answer = offline(lock, options.advisories) if options.advisories else asked()
    if answer is None:
        print(
            "not audited: no database of vulnerabilities answered, so nothing is known either way; go on with "
            "--advisories all.zip (OSV's export for PyPI), or give dist/sbom.cdx.json to a scanner"
        )
        return 3
    accepted = accepted_ids(ACCEPTED.read_text(encoding="utf-8"), datetime.now(UTC).date())
    open_ = [each for each in answer.found if each.id not in accepted]
    for each in answer.found:
        note = "" if each in open_ else "  (accepted)"
        print(f"{each.name} {each.version}: {each.id}, fixed in {each.fixed or 'no version'}{note}")
    print(f"{answer.source}: {answer.looked_up} of {len(lock)} locked packages looked up, {len(open_)} to mend")
    if answer.unknown:
        print(f"not looked up: {', '.join(answer.unknown)}")
    if open_:
        return 1
    return 3 if answer.unknown else 0


def locked(text: str) -> dict[str, str]:
    """Name to version."""
    pairs = (line.split("#")[0].strip().partition("==") for line in text.splitlines())
    return {canonicalize_name(name): version for name, equals, version in pairs if equals}


def accepted_ids(text: str, today: date) -> set[str]:
    """The ids that are accepted today. Raises ValueError for a line without a day and a reason."""
    found = set()
    for line in filter(None, (line.split("#")[0].strip() for line in text.splitlines())):
        id_, until, _ = line.split(maxsplit=2)
        if date.fromisoformat(until) >= today:
            found.add(id_)
    return found


def asked() -> Answer | None:
    """What pip-audit finds out; None where none of its databases looked up anything."""
    for service in SERVICES:
        command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--no-deps", "--disable-pip", "-s", service]
        ended = subprocess.run(
            [*command, "-f", "json", "--progress-spinner", "off"], capture_output=True, text=True, check=False
        )
        answer = read_answer(ended.stdout, f"pip-audit ({service})")
        if answer is not None:
            return answer
        last = (ended.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"pip-audit ({service}) looked up nothing: {last[:200]}", file=sys.stderr)
    return None


def read_answer(text: str, source: str) -> Answer | None:
    """pip-audit's JSON. It calls a package that no database knows no vulnerability: here it is unknown."""
    try:
        packages: list[dict[str, Any]] = json.loads(text)["dependencies"]
    except (ValueError, KeyError):
        return None
    known = [each for each in packages if "skip_reason" not in each]
    found = [
        Found(each["name"], each["version"], flaw["id"], ", ".join(flaw.get("fix_versions", ())))
        for each in known
        for flaw in each.get("vulns", ())
    ]
    unknown = tuple(sorted(each["name"] for each in packages if "skip_reason" in each))
    return Answer(source, len(known), tuple(found), unknown) if known else None


def offline(lock: Mapping[str, str], advisories: Path) -> Answer | None:
    """What an export of OSV says; None where no advisory of it can be read."""
    found: dict[tuple[str, str], Found] = {}
    unread: set[str] = set()
    doubtful: set[str] = set()
    number = 0
    try:
        for place, text in _advisories(advisories):
            try:
                advisory = json.loads(text)
                for flaw in _flaws(lock, advisory, doubtful):
                    found[flaw.name, flaw.id] = flaw
                number += 1
            except UNREADABLE:
                unread.add(place)
    except UNREADABLE as error:
        print(f"{advisories}: cannot be read to its end ({error})", file=sys.stderr)
        unread.add(str(advisories))
    said = f"{advisories} ({number} advisories)"
    unknown = (*sorted(doubtful), *(f"advisory {place}" for place in sorted(unread)))
    known = tuple(found[key] for key in sorted(found))
    return Answer(said, len(lock) - len(doubtful), known, unknown) if number else None


def _flaws(lock: Mapping[str, str], advisory: Mapping[str, Any], doubtful: set[str]) -> Iterator[Found]:
    """What an advisory says of the locked versions; packages of which it cannot be told are added to `doubtful`."""
    for affected in advisory.get("affected", ()) if not advisory.get("withdrawn") else ():
        package = affected.get("package", {})
        name = canonicalize_name(package.get("name", ""))
        if package.get("ecosystem") != "PyPI" or name not in lock:
            continue
        try:
            if is_affected(lock[name], affected):
                yield Found(name, lock[name], advisory["id"], ", ".join(_events(affected, "fixed")))
        except UNREADABLE:
            doubtful.add(name)


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Is a version listed, or within a range of an OSV entry. Raises ValueError where a version cannot be compared."""
    if version in affected.get("versions", ()):
        return True
    ours = Version(version)
    return any(
        _within(ours, range_.get("events", ()))
        for range_ in affected.get("ranges", ())
        if range_.get("type") == "ECOSYSTEM"
    )


def _within(ours: Version, events: Sequence[Mapping[str, str]]) -> bool:
    edges = [(Version(text), kind) for event in events for kind, text in event.items() if kind in EDGES]
    inside = False
    for edge, kind in sorted(edges, key=lambda pair: pair[0]):
        if kind == "introduced" and ours >= edge:
            inside = True
        elif (kind == "fixed" and ours >= edge) or (kind == "last_affected" and ours > edge):
            inside = False
    return inside


def _events(affected: Mapping[str, Any], kind: str) -> list[str]:
    ranges = [range_ for range_ in affected.get("ranges", ()) if range_.get("type") == "ECOSYSTEM"]
    return [event[kind] for range_ in ranges for event in range_.get("events", ()) if kind in event]


def _advisories(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each JSON file; a file of a zip that is damaged has no content."""
    if place.is_dir():
        for file in sorted(place.glob("*.json")):
            yield file.name, file.read_bytes()
        return
    with zipfile.ZipFile(place) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                try:
                    content = archive.read(name)
                except UNREADABLE:
                    content = b""
                yield name, content


if __name__ == "__main__":
    sys.exit(main())
