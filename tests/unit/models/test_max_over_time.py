from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_spark.models.item_encoders.max_over_time import MaxOverTime

WIDTHS, WORDS, FILTERS, DIM = (3, 4, 5), 40, 6, 8


def drawn(texts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors of words [V, E], filters [taps, F, E], and texts of 0 to 12 words [U, W] with their lengths."""
    generator = torch.Generator().manual_seed(texts)
    vectors = torch.randn(WORDS, DIM, generator=generator, dtype=torch.float64)
    vectors[0] = 0.0
    filters = torch.randn(sum(WIDTHS), FILTERS, DIM, generator=generator, dtype=torch.float64)
    lengths = torch.randint(0, 13, (texts,), generator=generator)
    places = torch.randint(1, WORDS, (texts, 12), generator=generator)
    return vectors, filters, places * (torch.arange(12) < lengths[:, None]), lengths


def convolved(vectors: Tensor, filters: Tensor, places: Tensor, lengths: Tensor) -> Tensor:
    """The same by torch's convolution."""
    maxima, first = [], 0
    behind = torch.arange(12) >= lengths.clamp(min=1)[:, None]
    for width in WIDTHS:
        text = F.pad(vectors[places].mT, (0, width - 1))
        windows = F.conv1d(text, filters[first : first + width].permute(1, 2, 0))
        maxima.append(windows.masked_fill(behind[:, None], -torch.inf).amax(dim=2))
        first += width
    return torch.cat(maxima, dim=1)


@pytest.mark.parametrize("texts", [1, 7, 8000])  # the last ones fill blocks
def test_values_and_gradients_are_those_of_a_convolution_and_its_maximum(texts):
    vectors, filters, places, lengths = drawn(texts)
    vectors.requires_grad_()
    filters.requires_grad_()
    own = MaxOverTime.apply(torch.einsum("ve,tfe->vtf", vectors, filters), places, lengths, WIDTHS)
    expected = convolved(vectors, filters, places, lengths)
    torch.testing.assert_close(own, expected)
    weights = torch.randn(own.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    words, taps = torch.autograd.grad((own * weights).sum(), (vectors, filters))
    by_words, by_taps = torch.autograd.grad((expected * weights).sum(), (vectors, filters))
    torch.testing.assert_close(words[1:], by_words[1:])
    torch.testing.assert_close(taps, by_taps)
    assert not words[0].any()  # what stands behind a text's end is no word
