"""What was learned, and where the time of training went."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Meter:
    """Sums over an epoch, from its begin or from where it was taken up."""

    sums: Tensor
    """[2] float64: loss and positions of the whole epoch, over all processes; stays on the device."""
    before: float = 0.0
    """Positions that an earlier process counted."""
    started: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    """Seconds spent waiting for a step's data."""
    saved: float = 0.0
    """Seconds spent writing checkpoints."""
    seconds: float = 0.0

    @classmethod
    def at(cls, sums: tuple[float, float], device: torch.device) -> Meter:
        """A meter that goes on from these sums."""
        return cls(torch.tensor(sums, dtype=torch.float64, device=device), before=sums[1])

    def add(self, totals: Tensor | None) -> None:
        """Count summed loss and positions, where they are known."""
        if totals is not None:
            self.sums += totals

    def stop(self) -> None:
        """The epoch is over."""
        self.seconds = time.perf_counter() - self.started

    @property
    def positions(self) -> float:
        """Positions that were trained since `started`."""
        return float(self.sums[1]) - self.before

    def numbers(self) -> dict[str, float]:
        """Mean loss a position, positions a second, shares of the time that went to waiting and to checkpoints."""
        seconds = max(self.seconds or time.perf_counter() - self.started, 1e-9)
        loss, positions = self.sums.tolist()
        return {
            "loss": loss / max(1.0, positions),
            "positions_per_second": self.positions / seconds,
            "data_wait_share": self.waited / seconds,
            "checkpoint_share": self.saved / seconds,
        }
