"""An item vector from the words of the item's text, by a convolutional network (Kim 2014).

    v_i = W max_t relu(conv_w(words)_t)  for windows of w = 3, 4, 5 words

Kim's network as he draws it: word vectors, filters over windows of three widths, the maximum over time of each filter,
dropout, a linear layer. Items of equal text are encoded once, and a word's products with the filters are computed once
for all texts of a block that it stands in (`max_over_time`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composition import Composition
from recsys_spark.models.content import Content
from recsys_spark.models.item_encoders.max_over_time import MaxOverTime
from recsys_spark.models.item_encoders.reading import Reading, distinct

WIDTHS = (3, 4, 5)
TEXTS_AT_ONCE = 8_192
"""Texts whose words' products with the filters are in memory at once."""


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
        # Projected some texts at a time: what the filters say of all of a large catalogue would not fit.
        vectors = [
            self.project(self.dropout(self._maxima(content.words_TW[some]))) for some in texts_U.split(TEXTS_AT_ONCE)
        ]
        return F.embedding(place_R, torch.cat(vectors))

    def _maxima(self, words_UW: Tensor) -> Tensor:
        """The filters' maxima over time [U, 3 F]. A window begins at each word; behind the text stand zeros."""
        words_V, places = torch.unique(words_UW, return_inverse=True)
        words_V, places = F.pad(words_V, (1, 0)), places + 1  # the first row stands for what is behind a text
        vectors_VE = F.embedding(words_V, self.words) * (words_V > 0)[:, None]
        weight_GE = torch.cat([conv.weight.permute(2, 0, 1).flatten(0, 1) for conv in self.filters])
        products_VTF = F.linear(vectors_VE, weight_GE).float().view(len(words_V), sum(WIDTHS), -1)
        lengths_U = (words_UW > 0).sum(dim=1)
        maxima_UF: Tensor = MaxOverTime.apply(products_VTF, places, lengths_U, WIDTHS)
        return torch.relu(maxima_UF + torch.cat([conv.bias for conv in self.filters]))
