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

BLOCK_POSITIONS = 8_192
"""Words whose windows are summed at once: the sums stay in the cache."""


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
        maxima = rows.new_empty(lengths_U.numel(), len(widths), filters)
        chosen = places_UW.new_empty(lengths_U.numel(), taps, filters) if ctx.needs_input_grad[0] else None
        order_U = lengths_U.argsort(stable=True)
        for start, stop, width in _blocks(lengths_U[order_U].tolist()):
            texts = order_U[start:stop]
            placed = F.pad(places_UW[texts, :width] * taps, (0, max(widths) - 1))
            behind = torch.arange(width, device=texts.device) >= lengths_U[texts].clamp(min=1)[:, None]
            first = 0
            for number, wide in enumerate(widths):
                steps = torch.arange(first, first + wide, device=texts.device)
                windows = placed.unfold(1, wide, 1)[:, :width] + steps
                sums = F.embedding_bag(windows.reshape(-1, wide), rows, mode="sum").view(stop - start, width, filters)
                best, at = sums.masked_fill_(behind[:, :, None], -torch.inf).max(dim=1)
                maxima[texts, number] = best
                if chosen is not None:
                    chosen[texts, first : first + wide] = windows.gather(1, at[:, :, None].expand(-1, -1, wide)).mT
                first += wide
        ctx.widths, ctx.shape = tuple(widths), products_VTF.shape
        if chosen is not None:
            ctx.save_for_backward(chosen)
        return maxima.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Each maximum's gradient goes to the rows of its window; words behind a text's end are none."""
        (chosen,) = ctx.saved_tensors
        filters = ctx.shape[2]
        into = (chosen * filters).add_(torch.arange(filters, device=chosen.device))
        widths = torch.tensor(ctx.widths, device=gradient.device)
        spread = gradient.view(-1, len(ctx.widths), filters).repeat_interleave(widths, dim=1, output_size=ctx.shape[1])
        products = gradient.new_zeros(ctx.shape)
        products.view(-1).index_add_(0, into.flatten(), spread.flatten())
        products[0] = 0.0
        return products, None, None, None


def _blocks(lengths: list[int]) -> Iterator[tuple[int, int, int]]:
    """Start, stop and width of runs of rising lengths that differ by at most a quarter (or one word)."""
    start = 0
    while start < len(lengths):
        limit = max(lengths[start] + 1, int(lengths[start] * 1.25))
        stop = start
        while stop < len(lengths) and lengths[stop] <= limit and (stop - start) * limit < BLOCK_POSITIONS:
            stop += 1
        yield start, stop, max(1, lengths[stop - 1])
        start = stop
