"""Draws negatives in proportion to a power of the items' counts, with the logarithms that correct for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class NegativeSampler:
    """Draws item codes with replacement: q_i proportional to count_i ** power (power 0 is uniform).

    A draw looks a uniform number up in the cumulative distribution (log I steps), which for a large catalogue is far
    cheaper than `torch.multinomial`.
    """

    def __init__(self, counts_I: Tensor, power: float) -> None:
        weights_I = counts_I.to(torch.float64).clamp(min=1.0) ** power
        self._cumulative_I = (weights_I / weights_I.sum()).cumsum(0)
        self._cumulative_I[-1] = 1.0
        self._log_q_I = torch.log(weights_I / weights_I.sum())

    def shared(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw for a whole step: distinct codes [N] and log weights [N], N at most `draws`.

        An item drawn c times of n weighs c / (n q_i), so that the sum over the sample of weight * exp(score) is an
        unbiased estimate of the sum of exp(score) over the catalogue (the log-Q correction of Bengio and Senecal 2008).
        """
        codes_N, counts_N = torch.unique(self._draw((draws,), generator), return_counts=True)
        return codes_N, self.log_weight(codes_N, counts_N, draws)

    def log_weight(self, codes_N: Tensor, counts_N: Tensor, draws: int) -> Tensor:
        """log(c / (n q_i)) [N] of items that came up c times among n draws."""
        log_weight_N = torch.log(counts_N.to(torch.float64)) - math.log(max(1, draws)) - self._log_q_I[codes_N]
        return log_weight_N.to(torch.float32)

    def each(self, positions: int, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw for each position: codes [P, K] and log(1 / (K q_i I)) [P, K].

        With it, logistic regression against the draws is noise-contrastive estimation (Gutmann and Hyvarinen 2010) of
        log(I * p(item | user)) for any power; for power 0 it is the usual binary cross-entropy shifted by log K.
        """
        codes_PK = self._draw((positions, draws), generator)
        return codes_PK, self.log_noise_odds(codes_PK, draws)

    def log_noise_odds(self, codes: Tensor, draws: int) -> Tensor:
        """log(1 / (K q_i I)) of any codes."""
        return (-math.log(draws * self._log_q_I.numel()) - self._log_q_I[codes]).to(torch.float32)

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        return torch.searchsorted(self._cumulative_I, uniform, right=True).clamp_(max=self._cumulative_I.numel() - 1)
