"""Who holds the lock of a workspace: what is written down of a process, and how to tell that it is dead."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from recsys_spark.errors import UserError

STAT_STATE, STAT_START = 0, 19
"""Fields of /proc/<pid>/stat after the name: the state, and the start in ticks after boot."""


@dataclass(frozen=True)
class Holder:
    """A process that took the lock."""

    host: str
    pid: int
    job: str
    since: str
    """When it took the lock, by its own clock: ISO 8601, UTC."""
    lease_seconds: float
    """How long its claim holds after its last sign of life."""
    token: str
    """Tells it from every other holder."""
    process: str | None
    """Boot, process namespace and start of the process; None where the system does not tell."""
    run_id: str = ""
    """Its run in MLflow, as soon as there is one."""
    released: bool = False
    """Did it give the lock back."""

    @property
    def line(self) -> str:
        """Who it is, for a person."""
        run = f"run {self.run_id}, " if self.run_id else ""
        return f"{self.job} ({run}pid {self.pid} on {self.host}) since {self.since}"

    @property
    def dead(self) -> bool:
        """Is it known to be dead: only a process of this very system can be looked for."""
        ours, its = _identity(os.getpid()), self.process
        if ours is None or its is None or ours.rsplit("/", 1)[0] != its.rsplit("/", 1)[0]:
            return False
        return _identity(self.pid) != its

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def read(cls, path: Path) -> Holder:
        """From a file. Raises UserError where it is damaged, OSError where it cannot be read."""
        text = path.read_text(encoding="utf-8")
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            raise UserError(f"lock {path}: not written by this program; remove it when no job is running") from None


def this_process(job: str, lease_seconds: float) -> Holder:
    """The running process as a holder."""
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        job=job,
        since=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        lease_seconds=lease_seconds,
        token=uuid.uuid4().hex,
        process=_identity(os.getpid()),
    )


def _identity(pid: int) -> str | None:
    """`boot/namespace/start` of a process that lives; None where there is none, or the system has no /proc.

    Equal process numbers mean nothing after a reboot, in another container, or where the number was given out again.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    if fields[STAT_STATE] in "ZX":
        return None
    return f"{boot}/{namespace}/{fields[STAT_START]}"
