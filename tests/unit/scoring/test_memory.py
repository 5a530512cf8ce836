"""Freed memory is used again: told by the pages that the system has to hand out, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
from recsys_spark.scoring.memory import keep_freed_memory
kept = keep_freed_memory() if {keep} else True
bytearray(1 << 27)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    bytearray(1 << 27)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_large_blocks_cost_new_pages_once() -> None:
    found = {}
    for keep in (True, False):
        done = subprocess.run([sys.executable, "-c", PAGES.format(keep=keep)], capture_output=True, check=True)
        kept, found[keep] = (int(word) for word in done.stdout.split())
        assert kept
    assert found[True] < found[False] / 10
