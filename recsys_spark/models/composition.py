"""What a composed model is made of, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Composition:
    """The parts of a model by name and their sizes: written into bundles and checkpoints."""

    user_encoder: str
    """A key of `composed.USER_ENCODERS`."""
    item_encoder: str
    """A key of `composed.ITEM_ENCODERS`."""
    scorer: str
    """A key of `composed.SCORERS`."""
    loss: str
    """A key of `composed.LOSSES`."""
    dim: int
    """Width D of user and item vectors."""
    layers: int
    """Layers of the recurrent encoder, or of NeuMF's MLP."""
    dropout: float
    """Dropout share while training."""
    num_items: int
    """Catalogue size I."""
    max_length: int
    """Positions of a history that the user encoder sees: the most recent ones."""

    def as_dict(self) -> dict[str, Any]:
        """The composition as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Composition:
        """The composition of JSON values; further keys are left alone."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})
