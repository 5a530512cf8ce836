"""`make serve`: stream and service start together and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "serve.sh"


@pytest.fixture
def begun(tmp_path: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """The script with a Python that notes what it is asked for, and its notes."""
    notes, python = tmp_path / "notes", tmp_path / "python"
    python.write_text(
        '#!/usr/bin/env bash\necho "$$ $*" >> "$NOTES"\n'
        'case "$*" in *publish*) exit "${PUBLISHED:-0}" ;; esac\nexec sleep 60\n'
    )
    python.chmod(0o755)
    environment = {**os.environ, "NOTES": str(notes)}
    return subprocess.Popen([SCRIPT, python, "--config", "c.yaml"], env=environment), notes


def running(notes: Path) -> dict[str, int]:
    """Process by what it runs, once both are there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = notes.read_text().splitlines() if notes.exists() else []
        if len(lines) == 3:
            assert lines[0].endswith("-m recsys_spark.online publish --config c.yaml")
            return {line.split(" ", 1)[1]: int(line.split()[0]) for line in lines[1:]}
        time.sleep(0.02)
    raise AssertionError("stream and service were never started")


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_both(begun: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, notes = begun
    both = running(notes)
    assert set(both) == {"jobs/update_online.py --config c.yaml", "-m recsys_spark.serving --config c.yaml"}
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert not any(is_alive(each) for each in both.values())


def test_where_one_ends_the_other_is_stopped_too(begun: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, notes = begun
    both = running(notes)
    os.kill(both["jobs/update_online.py --config c.yaml"], signal.SIGKILL)
    assert process.wait(timeout=20) != 0
    assert not any(is_alive(each) for each in both.values())
