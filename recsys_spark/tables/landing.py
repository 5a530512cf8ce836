"""Raw files as they arrived: copied once below the workspace, by arrival date, and never changed.

`<workspace>/landing/<source>/<arrival date>/` holds the copies and numbered manifests; a manifest lists all files of
its date and is linked into place, as the pointers of stages are, so a reader sees a delivery whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from recsys_spark.errors import UserError
from recsys_spark.tables.pointer import link_next, sync_directory

COPIERS = 4
"""Files that are copied at the same time."""


@dataclass(frozen=True)
class Delivered:
    """A file that may land."""

    name: str
    """What the world calls it: its path where it was delivered."""
    stamp: str
    """Its size and time there, or whatever else changes when its content does."""
    copy: Callable[[Path], object]
    """Writes its content to a path: a file, or a directory of files."""


@dataclass(frozen=True)
class Landed:
    """A file that has landed."""

    name: str
    stamp: str
    file: str
    """Its place below the landing directory of its date."""
    bytes: int
    sha256: str


class Landing:
    """The landing of one source."""

    def __init__(self, workspace: Path, source: str) -> None:
        readable = re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-")[-40:]
        self.directory = workspace / "landing" / f"{readable}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"

    def generations(self) -> dict[date, int]:
        """The number of the newest manifest of each arrival date."""
        found = {}
        for folder in sorted(self.directory.glob("[0-9]*-[0-9]*-[0-9]*")):
            numbers = [int(path.stem) for path in (folder / "manifests").glob("[0-9]*.json")]
            if numbers:
                found[date.fromisoformat(folder.name)] = max(numbers)
        return found

    def files(self, day: date) -> list[Landed]:
        """The files that arrived on a day, by name."""
        manifests = sorted((self._folder(day) / "manifests").glob("[0-9]*.json"))
        if not manifests:
            return []
        return [Landed(**entry) for entry in json.loads(manifests[-1].read_text(encoding="utf-8"))]

    def path(self, day: date, landed: Landed) -> Path:
        """Where a landed file can be read."""
        return self._folder(day) / landed.file

    def land(self, day: date, delivered: Sequence[Delivered], replace: bool) -> bool:
        """Copy what has not landed yet, and say whether anything was new.

        Files that landed stay, also where they are delivered no more. One that was delivered again with another stamp
        is compared by content: with `replace` a changed one takes the place of the old one, without it UserError is
        raised.
        """
        before = {landed.name: landed for landed in self.files(day)}
        fresh = [file for file in delivered if file.name not in before or before[file.name].stamp != file.stamp]
        if not fresh:
            return False
        folder = self._folder(day)
        (folder / "manifests").mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(COPIERS) as pool:
            copied = list(pool.map(lambda file: _copy(file, folder), fresh))
        now = dict(before)
        for landed in copied:
            old = before.get(landed.name)
            if old is not None and old.sha256 == landed.sha256:
                continue  # the same content again
            if old is not None and not replace:
                raise UserError(
                    f"{landed.name}: changed after it landed for {day}, and tables were made from it; deliver what "
                    "was corrected under another name, or land it again with --force"
                )
            now[landed.name] = landed
        if now == before:
            return False
        content = json.dumps([asdict(now[name]) for name in sorted(now)], indent=1)
        link_next(folder / "manifests", content)
        return True

    def _folder(self, day: date) -> Path:
        return self.directory / day.isoformat()


def fingerprint(generations: Iterable[Mapping[date, int]]) -> list[dict[str, int]]:
    """Generations of several sources as JSON."""
    return [{day.isoformat(): number for day, number in sorted(each.items())} for each in generations]


def _copy(file: Delivered, folder: Path) -> Landed:
    """Copy one file to its final place, under a name that no other file or content has."""
    temporary = folder / f".{uuid.uuid4().hex}"
    file.copy(temporary)
    digest, size = _digest(temporary)
    base = re.sub(r"[^A-Za-z0-9._=-]+", "_", Path(file.name).name)[-80:]
    # Two files of one name and content, from two folders, remain two files.
    label = hashlib.sha256(f"{file.name}\0{digest}".encode()).hexdigest()[:12]
    target = folder / f"{label}-{base}"
    if target.exists():
        shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
    else:
        os.replace(temporary, target)
        sync_directory(folder)
    return Landed(file.name, file.stamp, target.name, size, digest)


def _digest(path: Path) -> tuple[str, int]:
    """sha256 and size of a file, or of all files of a directory, after flushing them to disk."""
    digest, size = hashlib.sha256(), 0
    for member in [path] if path.is_file() else sorted(child for child in path.rglob("*") if child.is_file()):
        with member.open("rb") as content:
            os.fsync(content.fileno())
            while chunk := content.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    return digest.hexdigest(), size
