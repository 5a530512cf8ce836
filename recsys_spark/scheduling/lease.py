"""The lock of a workspace: one job writes at a time, and the lock of a dead one runs out.

`<workspace>/schedule/claims/00000042.json` says who holds the lock. Claims are numbered, the highest counts. A claim
is written whole, synced, and hard-linked under a number that nobody has, so of several takers one wins. A thread of it
touches the claim; who finds that untouched for longer than its lease, or its process dead on this very system, links
the next number. Both times are stamps of the file system, so clocks of hosts need not agree.

A holder that was only asleep must not publish later. It looks before each commit whether its claim is the highest; and
since it could fall asleep between that look and the commit, pointers are written in a staging folder of its own, from
which they are linked into place: a taker removes that folder before it starts, and with it what could be linked.

What is assumed of a shared file system: hard links and renames are atomic, a link to a name that exists fails, and
clients see changes of others well within `lease_seconds`: NFS 3 and 4, CephFS, GlusterFS, Lustre; not object stores.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from recsys_spark.errors import UserError
from recsys_spark.scheduling.holder import Holder, this_process
from recsys_spark.tables.files import write_synced
from recsys_spark.tables.pointer import Fence, sync_directory

log = logging.getLogger("recsys_spark")

BEATS = 4
"""Signs of life within a lease."""
POLL_SECONDS = 1.0
KEPT = 8
"""Claims that stay behind the newest one: a taker that read an old number must not find it free again."""


class BusyError(UserError):
    """Another job holds the lock."""


class LeaseLostError(Exception):
    """The job held the lock once, and another one has it now: it may publish nothing more."""

    status = "lost"


@dataclass(frozen=True)
class Claim:
    """The newest claim as it was found."""

    number: int
    holder: Holder
    silent_seconds: float
    """Since its last sign of life."""

    @property
    def free(self) -> bool:
        """May the lock be taken."""
        return self.holder.released or self.silent_seconds > self.holder.lease_seconds or self.holder.dead


class Lock:
    """The lock of one workspace."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "schedule"
        self.claims = self.folder / "claims"
        self.staging = self.folder / "staging"

    def look(self) -> Claim | None:
        """The newest claim; None where nobody ever held the lock."""
        while True:
            number = self.newest()
            if number == 0:
                return None
            path = self.path(number)
            try:
                with path.open("rb") as file:  # opened: a network's file system then asks its server
                    touched = os.fstat(file.fileno()).st_mtime
                return Claim(number, Holder.read(path), max(0.0, self._now() - touched))
            except FileNotFoundError:
                continue  # it was old, and was removed

    def newest(self) -> int:
        """The highest number; 0 where there is none."""
        return max((int(path.stem) for path in self.claims.glob("[0-9]*.json")), default=0)

    def path(self, number: int) -> Path:
        """The file of a claim."""
        return self.claims / f"{number:08d}.json"

    def take(self, holder: Holder) -> Lease | Claim:
        """The lock, or the claim of the one who has it."""
        self.claims.mkdir(parents=True, exist_ok=True)
        while True:
            found = self.look()
            if found is not None and not found.free:
                return found
            number = found.number + 1 if found else 1
            staging = self.staging / f"{number:08d}-{holder.token}"
            staging.mkdir(parents=True, exist_ok=True)
            # The highest one won; a number that was removed as an old one proves nothing.
            if self._claim(number, holder) and self.newest() == number:
                self._sweep(number)
                return Lease(self, number, holder, staging)
            with suppress(FileNotFoundError):
                if Holder.read(self.path(number)).token == holder.token:
                    self.path(number).unlink()
            shutil.rmtree(staging, ignore_errors=True)

    def _claim(self, number: int, holder: Holder) -> bool:
        temporary = self.claims / f".{uuid.uuid4().hex}.tmp"
        write_synced(temporary, holder.to_json())
        try:
            os.link(temporary, self.path(number))
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(self.claims)
        return True

    def _sweep(self, number: int) -> None:
        """Remove what earlier holders could still publish from, and the oldest claims."""
        for folder in self.staging.glob("[0-9]*-*"):
            if int(folder.name[:8]) < number:
                gone = self.folder / f".gone-{uuid.uuid4().hex}"
                with suppress(FileNotFoundError):
                    os.rename(folder, gone)  # at once: the earlier holder can put nothing into it any more
        for folder in self.folder.glob(".gone-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.claims.glob("[0-9]*.json"):
            if int(path.stem) < number - KEPT:
                path.unlink(missing_ok=True)

    def _now(self) -> float:
        """The time by the clock that stamps files."""
        probe = self.claims / f".{uuid.uuid4().hex}.now"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except PermissionError:
            return time.time()  # who may only read may look all the same
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


class Lease:
    """The lock while this process holds it."""

    def __init__(self, lock: Lock, number: int, holder: Holder, staging: Path) -> None:
        self.holder = holder
        self.fence = Fence(staging, self.check)
        self._lock = lock
        self._path = lock.path(number)
        self._number = number
        self._lost = threading.Event()
        self._done = threading.Event()
        self._writing = threading.Lock()
        self._seconds = holder.lease_seconds
        self._seen = time.monotonic()
        self._beats = threading.Thread(target=self._beat, name="lease-of-the-workspace", daemon=True)
        self._beats.start()

    def check(self) -> None:
        """Raises LeaseLostError where this process does not hold the lock any more."""
        with suppress(OSError):
            self._renew()
        if self._lost.is_set() or time.monotonic() - self._seen > self._seconds:
            self._lost.set()
            raise LeaseLostError(self._lost_to())

    def name_run(self, run_id: str) -> None:
        """Tell who looks which MLflow run this is."""
        self.holder = replace(self.holder, run_id=run_id)
        self._write(self.holder)

    def release(self) -> None:
        """Give the lock back."""
        self._done.set()
        self._beats.join()
        if not self._lost.is_set() and self._lock.newest() == self._number:
            self._write(replace(self.holder, released=True))
        shutil.rmtree(self.fence.staging, ignore_errors=True)

    def _beat(self) -> None:
        while not self._done.wait(self._seconds / BEATS):
            try:
                self._renew()
            except OSError as error:
                log.warning("the lock of the workspace could not be renewed (%s); trying again", error.strerror)
            if self._lost.is_set():
                log.error("%s; this job will publish nothing more", self._lost_to())
                return

    def _renew(self) -> None:
        """A sign of life, unless somebody took over. Raises OSError where the file system does not answer."""
        if self._lock.newest() != self._number:
            self._lost.set()
            return
        os.utime(self._path)
        self._seen = time.monotonic()

    def _write(self, holder: Holder) -> None:
        """Replace what is written of this holder."""
        with self._writing:
            temporary = self._lock.claims / f".{uuid.uuid4().hex}.tmp"
            write_synced(temporary, holder.to_json())
            os.replace(temporary, self._path)

    def _lost_to(self) -> str:
        with suppress(OSError, UserError):
            found = self._lock.look()
            if found is not None and found.number != self._number:
                return f"the lock of workspace {self._lock.folder.parent} was taken over by {found.holder.line}"
        return f"the lock of workspace {self._lock.folder.parent} could not be renewed for {self._seconds:g} s"


@contextmanager
def held(
    root: Path,
    job: str,
    lease_seconds: float,
    wait_seconds: float = 0.0,
    progress: Callable[[str], None] = lambda message: None,
) -> Iterator[Lease]:
    """Hold the lock of a workspace; raises BusyError where another job has it for longer than `wait_seconds`."""
    lock = Lock(root)
    until = time.monotonic() + wait_seconds
    waiting = False
    while True:
        found = lock.take(this_process(job, lease_seconds))
        if isinstance(found, Lease):
            break
        left = until - time.monotonic()
        if left <= 0:
            waited = f" (waited {wait_seconds:g} s)" if waiting else ""
            raise BusyError(
                f"workspace {root}: held by {found.holder.line}, last sign of life {found.silent_seconds:.0f} s "
                f"ago{waited}; run this job when that one has ended, or set schedule.wait_seconds"
            )
        if not waiting:
            progress(f"waiting up to {left:.0f} s for {found.holder.line}")
        waiting = True
        time.sleep(min(POLL_SECONDS, left))
    try:
        yield found
    finally:
        found.release()
