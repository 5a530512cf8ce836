"""How item encoders reach what they read: content stands beside the parameters and is no part of the state."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_spark.models.content import Content


class Reading:
    """The content that an encoder was given, on the device where it is asked for."""

    def __init__(self) -> None:
        self._content: Content | None = None

    def attach(self, content: Content) -> None:
        """Read this content from now on."""
        self._content = content

    def on(self, device: torch.device) -> Content:
        """The content on a device; it is moved once. Raises RuntimeError where none was attached."""
        if self._content is None:
            raise RuntimeError("the item encoder reads content, and none was attached")
        if self._content.texts_I.device != device:
            self._content = self._content.on(device)
        return self._content


def distinct(texts_R: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Distinct texts in rising order [U], the empty text 0 first, and the place among them of each text [R].

    The empty text always takes part, so that every process has a gradient for every parameter at every step.
    """
    marks = torch.zeros(size, dtype=torch.bool, device=texts_R.device)
    marks[texts_R] = True
    marks[0] = True
    return marks.nonzero().squeeze(1), (marks.cumsum(0) - 1)[texts_R]
