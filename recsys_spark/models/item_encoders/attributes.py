"""An item vector from the item's category, brand and price band."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composition import Composition
from recsys_spark.models.content import Content
from recsys_spark.models.item_encoders.reading import Reading


class AttributeItems(nn.Module):
    """The sum of three vectors. Code 0, unknown, has a vector of its own."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        sizes, dim = composition.content, composition.dim
        assert sizes is not None, "attributes are read from content"
        self.category = nn.Parameter(torch.empty(sizes.categories + 1, dim))
        self.brand = nn.Parameter(torch.empty(sizes.brands + 1, dim))
        self.price_band = nn.Parameter(torch.empty(sizes.price_bands + 1, dim))
        self._reading = Reading()

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the vectors so that the sum's expected squared length is one."""
        for table in self.parameters():
            nn.init.normal_(table, std=1.0 / math.sqrt(3 * table.shape[1]), generator=generator)

    def attach(self, content: Content) -> None:
        """Read this content from now on."""
        self._reading.attach(content)

    def forward(self, tokens_R: Tensor) -> Tensor:
        """Vectors [R, D] of distinct tokens."""
        content = self._reading.on(tokens_R.device)
        category_RD = F.embedding(content.categories_I[tokens_R], self.category)
        brand_RD = F.embedding(content.brands_I[tokens_R], self.brand)
        return category_RD + brand_RD + F.embedding(content.price_bands_I[tokens_R], self.price_band)
