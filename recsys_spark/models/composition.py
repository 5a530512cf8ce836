"""What a composed model is made of, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_spark.models.content import BertSettings, ContentSizes


@dataclass(frozen=True, kw_only=True)
class Composition:
    """The parts of a model by name and their sizes: written into bundles and checkpoints."""

    user_encoder: str
    """A key of `user_side.USER_ENCODERS`: id, mean, gru, lstm or transformer."""
    event_types: bool = False
    """Does the user encoder see the type of each event."""
    time_gaps: bool = False
    """Does the user encoder see the time since the event before."""
    layers: int = 1
    """Layers of the user encoder, or of NeuMF's MLP."""
    heads: int = 2
    """Attention heads of the transformer."""
    item_encoders: tuple[str, ...] = ("id",)
    """What an item vector is made of: id, attributes, kim_cnn, bert."""
    combine: str = "sum"
    """How several item encoders become one: sum or gate."""
    id_dropout: float = 0.0
    """Share of items whose id part is hidden while training, where there are other parts to learn from."""
    affinity: tuple[str, ...] = ()
    """Attributes whose share in the whole history is added to the score: keys of `affinity.COLUMNS`."""
    content: ContentSizes | None = None
    """Sizes of the content that item encoders read."""
    bert: BertSettings | None = None
    """The language model that reads items."""
    scorer: str = "dot"
    """A key of `composed.SCORERS`: dot, cosine or neumf."""
    temperature: float = 0.1
    """What the cosine is divided by at the start of training."""
    loss: str = "full_softmax"
    """A key of `composed.LOSSES`."""
    calibration: float = 0.75
    """The t of gBCE: 0 is plain binary cross-entropy, 1 undoes the overconfidence of sampling."""
    dim: int
    """Width D of user and item vectors."""
    input_dropout: float | None = None
    """Dropout share of the item vectors that the user encoder reads while training; None leaves it to the encoder."""
    dropout: float = 0.0
    """Dropout share while training."""
    num_items: int
    """Catalogue size I."""
    num_users: int = 0
    """Largest user index, where the user encoder is a table of users; else 0."""
    max_length: int
    """Positions of a history that the user encoder sees: the most recent ones."""

    def as_dict(self) -> dict[str, Any]:
        """The composition as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Composition:
        """The composition of JSON values; further keys are left alone, missing ones keep their defaults."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        known["item_encoders"] = tuple(known.get("item_encoders", ("id",)))
        known["affinity"] = tuple(known.get("affinity", ()))
        if known.get("content") is not None or known.get("bert") is not None:
            from recsys_spark.models.content import BertSettings, ContentSizes

            for name, kind in (("content", ContentSizes), ("bert", BertSettings)):
                if isinstance(known.get(name), Mapping):
                    known[name] = kind(**known[name])
        return cls(**known)
