"""An item vector from the words of the item's text, by a convolutional network (Kim 2014).

    v_i = W max_t relu(conv_w(words)_t)  for windows of w = 3, 4, 5 words

Kim's network as he draws it: word vectors, filters over windows of three widths, the maximum over time of each filter,
dropout, a linear layer. What makes it cheap for thousands of items a step: items of equal text are encoded once, texts
of similar length go through together, and the three widths are one convolution of width 5 whose narrower filters end in
zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composition import Composition
from recsys_spark.models.content import Content
from recsys_spark.models.item_encoders.reading import Reading, distinct

WIDTHS = (3, 4, 5)
BLOCK_POSITIONS = 32_768
"""Words that go through the convolution at once."""


class KimCNNItems(nn.Module):
    """Word vectors, filters, and the projection of the filters' maxima."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        sizes = composition.content
        assert sizes is not None, "words are read from content"
        self.words = nn.Parameter(torch.empty(sizes.vocabulary, sizes.word_dim))
        self.filters = nn.ModuleList(nn.Conv1d(sizes.word_dim, sizes.filters, width) for width in WIDTHS)
        self.dropout = nn.Dropout(composition.dropout)
        self.project = nn.Linear(len(WIDTHS) * sizes.filters, composition.dim)
        self._reading = Reading()

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw vectors of words and, from maxima of about 2, of items whose length is about one; filters are He's."""
        nn.init.normal_(self.words, std=1.0 / math.sqrt(self.words.shape[1]), generator=generator)
        with torch.no_grad():
            self.words[0].zero_()
        for conv in self.filters:
            # Word vectors have length one, not a unit in each dimension: a window of w words has the square w.
            nn.init.normal_(conv.weight, std=math.sqrt(2.0 / conv.kernel_size[0]), generator=generator)
            nn.init.zeros_(conv.bias)
        filters, dim = self.project.in_features, self.project.out_features
        nn.init.normal_(self.project.weight, std=0.5 / math.sqrt(filters * dim), generator=generator)
        nn.init.zeros_(self.project.bias)

    def attach(self, content: Content) -> None:
        """Read this content from now on."""
        self._reading.attach(content)

    @torch.no_grad()
    def start_from_content(self, content: Content) -> None:
        """Begin with the content's word vectors, where words have one."""
        if content.word_vectors is not None:
            known = content.word_vectors.any(dim=1)
            self.words[known] = content.word_vectors[known].to(self.words)

    def forward(self, tokens_R: Tensor) -> Tensor:
        """Vectors [R, D] of distinct tokens."""
        content = self._reading.on(tokens_R.device)
        texts_U, place_R = distinct(content.texts_I[tokens_R], content.words_TW.shape[0])
        words_UW = content.words_TW[texts_U].to(torch.int64)
        lengths_U = (words_UW > 0).sum(dim=1)
        order_U = lengths_U.argsort(stable=True)
        maxima = [
            self._maxima(words_UW[order_U[start:stop], :width], lengths_U[order_U[start:stop]])
            for start, stop, width in _blocks(lengths_U[order_U].tolist())
        ]
        back_U = torch.empty_like(order_U)
        back_U[order_U] = torch.arange(order_U.numel(), device=order_U.device)
        vectors_UD = self.project(self.dropout(torch.cat(maxima)[back_U]))
        return F.embedding(place_R, vectors_UD)

    def _maxima(self, words_BW: Tensor, lengths_B: Tensor) -> Tensor:
        """The filters' maxima over time [B, 3 F]. A window begins at each word; behind the text stand zeros."""
        widest = max(WIDTHS)
        weight = torch.cat([F.pad(conv.weight, (0, widest - conv.kernel_size[0])) for conv in self.filters])
        vectors_BWE = F.embedding(words_BW, self.words) * (words_BW > 0)[:, :, None]
        windows_BFW = F.conv1d(F.pad(vectors_BWE.transpose(1, 2), (0, widest - 1)), weight)
        # What windows behind the text say must not be the maximum; an empty text has one window, of zeros.
        behind_BW = torch.arange(words_BW.shape[1], device=words_BW.device) >= lengths_B.clamp(min=1)[:, None]
        maxima_BF = windows_BFW.masked_fill(behind_BW[:, None, :], -torch.inf).amax(dim=2)
        return torch.relu(maxima_BF + torch.cat([conv.bias for conv in self.filters]))


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
