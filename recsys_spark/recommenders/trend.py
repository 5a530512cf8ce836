"""The rise of items: recent counts against those that are expected, at the cut of a fit and as live events come in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys_spark.recommenders.histories import SECONDS_A_DAY


def rise(short: NDArray[np.float64], long: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    """log((s_i + c) / (e_i + c)), e_i = l_i x sum s / sum l: the recent count against the one that is expected of it.

    e_i lets the shop as a whole neither rise nor fall. The quotient is the mean of a Gamma(c, c) prior after s_i events
    where e_i were expected (DuMouchel 1999), so that few events prove little.
    """
    expected = long * (short.sum() / long.sum()) if long.sum() > 0 else long
    return np.asarray(np.log((short + smoothing) / (expected + smoothing)))


@dataclass(frozen=True)
class Trend:
    """What a trending score was made of, for I items."""

    short_I: Tensor
    """[I] float64: recent counts, decayed to `at`."""
    long_I: Tensor
    """[I] float64: the usual counts; only their proportions matter."""
    at: float
    """Epoch seconds of the fit's cut."""
    smoothing: float
    """The c of the quotient."""

    def scores(self, live_I: NDArray[np.float64], now: float, half_life_days: float) -> NDArray[np.float64]:
        """[I] the rise at `now` (epoch seconds), where `live_I` [I] are the counts since the cut, decayed to `now`.

        What is usual stays what it was at the cut. Without live counts it is the fit's score, whatever the time.
        """
        if not live_I.any():
            return rise(self.short_I.numpy(), self.long_I.numpy(), self.smoothing)
        faded = 0.5 ** (max(0.0, now - self.at) / (half_life_days * SECONDS_A_DAY))
        return rise(self.short_I.numpy() * faded + live_I, self.long_I.numpy(), self.smoothing)
