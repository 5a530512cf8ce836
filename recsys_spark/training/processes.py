"""The processes that train together: who this one is, and the sums that they share."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass
class Traffic:
    """Bytes that this process gave to exchanges with the others."""

    bytes: int = 0

    def count(self, tensor: Tensor) -> None:
        """One more exchange."""
        self.bytes += tensor.numel() * tensor.element_size()


@dataclass(frozen=True)
class Processes:
    """One process among all; with one process every exchange is nothing at all.

    Gradients are summed here instead of by `DistributedDataParallel`: the item tables' gradients hold the rows of the
    step alone (the same rows on every process), which DDP would spread over the whole table.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    aside: Any = None
    """The group for exchanges of the thread that makes steps: on the CPU, in an order of its own."""
    traffic: Traffic = field(default_factory=Traffic)
    """Counted over all exchanges of both threads."""

    def alone(self) -> Processes:
        """The same process, exchanging nothing."""
        return replace(self, size=1, aside=None)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over processes, in one exchange."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self.traffic.count(flat)
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def total(self, *values: float) -> list[float]:
        """Sums of numbers over processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def union_(self, marks: Tensor) -> None:
        """Replace marks (uint8, on the CPU) by their maximum over processes; for the thread that makes steps."""
        if self.size > 1:
            self.traffic.count(marks)
            dist.all_reduce(marks, op=dist.ReduceOp.MAX, group=self.aside)

    def add_(self, counts: Tensor) -> None:
        """Replace counts (integers, on the CPU) by their sums over processes; for the thread that makes steps."""
        if self.size > 1:
            self.traffic.count(counts)
            dist.all_reduce(counts, group=self.aside)

    def agree(self, value: int) -> int:
        """The value of rank 0, on every process; also waits until rank 0 has it."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(shared, src=0)
        return int(shared)


@contextmanager
def joined(size: int, use_gpu: bool, threads: int | None = None) -> Iterator[Processes]:
    """Join the processes that torchrun announced in the environment, and leave them at the end.

    Raises RuntimeError where another number of processes was started than was asked for.
    """
    rank, started = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if started != size:
        raise RuntimeError(f"training was launched with {started} processes instead of {size}")
    with _gpu() if use_gpu else nullcontext(torch.device("cpu")) as device:
        if size == 1:
            torch.set_num_threads(threads or _cores())
            yield Processes(device=device)
            return
        with _group(rank, size, device, threads) as processes:
            yield processes


@contextmanager
def _gpu() -> Iterator[torch.device]:
    """The GPU of this process, told to add up in the same order each time, as far as torch knows how to."""
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield device
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled


@contextmanager
def _group(rank: int, size: int, device: torch.device, threads: int | None) -> Iterator[Processes]:
    """All processes, joined."""
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        processes = Processes(rank, size, device, aside=dist.new_group(backend="gloo"))
        torch.set_num_threads(threads or max(1, _cores() // _processes_on_this_host(processes)))
        yield processes
    finally:
        dist.destroy_process_group()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processes_on_this_host(processes: Processes) -> int:
    name = int.from_bytes(hashlib.sha256(socket.gethostname().encode()).digest()[:7], "big")
    names = torch.zeros(processes.size, dtype=torch.int64, device=processes.device)
    names[processes.rank] = name
    dist.all_reduce(names)
    return int((names == name).sum())
