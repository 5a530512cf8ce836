"""Memory that was freed stays with the process, for blocks of users to come.

A block's scores are tens of megabytes. By default glibc gives such memory back to the system as soon as it is freed,
and the next block's pages are zeroed and mapped anew, one by one: about as dear as a matrix product.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)."""
MOST_BYTES = 1 << 30
"""Larger pieces are given back as before, and so is what is free beyond that."""


def keep_freed_memory() -> bool:
    """Tell the C library; False where it is none that can be told, and all stays as it was."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return bool(mallopt(MMAP_THRESHOLD, MOST_BYTES) and mallopt(TRIM_THRESHOLD, MOST_BYTES))
