"""The machine's rate at the three products of a full softmax: scores, and the gradients of users and of items."""

from __future__ import annotations

import time

import torch

POSITIONS = 2048
"""Positions in a step: about what a batch of 128 histories has."""


def softmax_flops(positions: int, items: int, dim: int) -> float:
    """Floating-point operations of the three products; a multiplication and an addition count as two."""
    return 6.0 * positions * items * dim


def matrix_rate(items: int, dim: int, threads: int, bf16: bool, device: str = "cpu", seconds: float = 2.0) -> float:
    """Floating-point operations a second: the best of the repetitions that fit into so many seconds, at least three."""
    torch.set_num_threads(threads)
    kind = torch.bfloat16 if bf16 else torch.float32
    users_PD = torch.randn(POSITIONS, dim, device=device, dtype=kind)
    items_ID = torch.randn(items, dim, device=device, dtype=kind)
    slopes_PI = torch.randn(POSITIONS, items, device=device, dtype=kind)
    best, until, done = float("inf"), time.perf_counter() + seconds, 0
    while done < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        _ = users_PD @ items_ID.T, slopes_PI @ items_ID, slopes_PI.T @ users_PD
        if device != "cpu":
            torch.cuda.synchronize()
        best, done = min(best, time.perf_counter() - started), done + 1
    return softmax_flops(POSITIONS, items, dim) / best
