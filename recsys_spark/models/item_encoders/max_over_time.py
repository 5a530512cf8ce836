"""The maxima over time of filters over windows of words, from what the filters make of each distinct word.

    m_uf = max_t sum_j P[words_{u, t + j}, j, f]

A convolution multiplies every word of every text by every filter. But texts share their words: the products of the
distinct words P [V, taps, F] are one matrix product, and a window is a sum of rows of it. Only the window that is the
maximum has a gradient, so the way back touches as many rows as a window is wide, for each text and filter, where that
of a convolution goes through all windows once more, twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_POSITIONS = {"cpu": 8_192, "cuda": 2**20}
"""Words whose windows are summed at once: on a CPU the sums stay in the cache, on a GPU they keep it busy."""


class MaxOverTime(torch.autograd.Function):
    """Maxima [U, N F] over each text's windows, for each of N widths F filters."""

    @staticmethod
    def forward(ctx: Any, products_VTF: Tensor, places_UW: Tensor, lengths_U: Tensor, widths: Sequence[int]) -> Tensor:
        """`products_VTF` [V, T, F] are of each distinct word, V's first row being zeros, for each tap of each width.

        `places_UW` [U, W] are words as rows of V, 0 behind a text's end. A window begins at each word, or in an empty
        text once, and may reach past the end.
        """
        words, taps, filters = products_VTF.shape
        rows = products_VTF.reshape(words * taps, filters)
        maxima_UNF = rows.new_empty(lengths_U.numel(), len(widths), filters)
        first_UNF = torch.empty(maxima_UNF.shape, dtype=torch.int32, device=rows.device)
        order_U = lengths_U.argsort(stable=True)
        block = BLOCK_POSITIONS.get(rows.device.type, BLOCK_POSITIONS["cuda"])
        for start, stop, width in _blocks(lengths_U[order_U].tolist(), block):
            texts = order_U[start:stop]
            placed = F.pad(places_UW[texts, :width] * taps, (0, max(widths) - 1))
            behind = torch.arange(width, device=texts.device) >= lengths_U[texts].clamp(min=1)[:, None]
            tap = 0
            for number, wide in enumerate(widths):
                windows = placed.unfold(1, wide, 1)[:, :width] + torch.arange(tap, tap + wide, device=texts.device)
                sums = F.embedding_bag(windows.reshape(-1, wide), rows, mode="sum").view(stop - start, width, filters)
                maxima_UNF[texts, number], at = sums.masked_fill_(behind[:, :, None], -torch.inf).max(dim=1)
                first_UNF[texts, number] = at.to(torch.int32)
                tap += wide
        ctx.widths, ctx.shape = tuple(widths), products_VTF.shape
        ctx.save_for_backward(first_UNF, places_UW)
        return maxima_UNF.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Each maximum's gradient goes to the rows of its window; words behind a text's end are none."""
        first_UNF, places_UW = ctx.saved_tensors
        _, taps, filters = ctx.shape
        gradient_UNF = gradient.view(first_UNF.shape)
        placed = F.pad(places_UW * (taps * filters), (0, max(ctx.widths) - 1))
        filter_F = torch.arange(filters, device=placed.device)
        products = gradient.new_zeros(ctx.shape)
        tap = 0
        for number, wide in enumerate(ctx.widths):
            spread, begins = gradient_UNF[:, number].flatten(), first_UNF[:, number].to(torch.int64)
            for step in range(wide):
                into = placed.gather(1, begins + step) + (tap * filters + filter_F)
                products.view(-1).index_add_(0, into.flatten(), spread)
                tap += 1
        products[0] = 0.0
        return products, None, None, None


def _blocks(lengths: list[int], positions: int) -> Iterator[tuple[int, int, int]]:
    """Start, stop and width of runs of rising lengths that differ by at most a quarter (or one word)."""
    start = 0
    while start < len(lengths):
        limit = max(lengths[start] + 1, int(lengths[start] * 1.25))
        stop = start
        while stop < len(lengths) and lengths[stop] <= limit and (stop - start) * limit < positions:
            stop += 1
        yield start, stop, max(1, lengths[stop - 1])
        start = stop
