"""Item vectors of several parts, so that what is known of an item's id and of its content comes together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recsys_spark.models.composition import Composition
from recsys_spark.models.content import Content
from recsys_spark.models.item_encoders.attributes import AttributeItems
from recsys_spark.models.item_encoders.bert import BertItems
from recsys_spark.models.item_encoders.id import IdItems
from recsys_spark.models.item_encoders.kim_cnn import KimCNNItems

ITEM_ENCODERS: dict[str, Callable[[Composition], nn.Module]] = {
    "id": IdItems,
    "attributes": AttributeItems,
    "kim_cnn": KimCNNItems,
    "bert": BertItems,
}
ID_SCALE = 0.1
"""Beside content the id's vectors start small: an item of few events is what its content says."""


def make_item_encoder(composition: Composition) -> nn.Module:
    """The item encoder of a composition, parameters not drawn."""
    return IdItems(composition) if composition.item_encoders == ("id",) else CombinedItems(composition)


class CombinedItems(nn.Module):
    """The parts' vectors, added or mixed by gates.

    The id's part is hidden for a share `id_dropout` of a step's items while training, and for items that the fit never
    saw: their vectors are made as those of the hidden ones were. A gate is one number an item and part, from the part's
    own vector; the gates of the parts that are there sum to one.
    """

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        names = composition.item_encoders
        self.parts = nn.ModuleDict({name: ITEM_ENCODERS[name](composition) for name in names})
        gated = composition.combine == "gate" and len(names) > 1
        self.gates = nn.ModuleDict({name: nn.Linear(composition.dim, 1) for name in names}) if gated else None
        self.id_dropout = composition.id_dropout if len(names) > 1 else 0.0

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the parts; the gates start equal."""
        for name, part in self.parts.items():
            part.reset_parameters(generator)
            if name == "id" and len(self.parts) > 1:
                with torch.no_grad():
                    part.weight.mul_(ID_SCALE)
        for gate in self.gates.values() if self.gates is not None else ():
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)

    def attach(self, content: Content) -> None:
        """Read this content from now on."""
        for part in self._content_parts():
            part.attach(content)

    def start_from_content(self, content: Content) -> None:
        """Begin with what the content has learned already."""
        for part in self._content_parts():
            if isinstance(part, KimCNNItems | BertItems):
                part.start_from_content(content)

    def end_epoch(self) -> None:
        """Take in what was learned in an epoch, where a part keeps vectors of its own."""
        for part in self._content_parts():
            if isinstance(part, BertItems):
                part.end_epoch()

    def forward(self, tokens_R: Tensor) -> Tensor:
        """Vectors [R, D] of distinct tokens; zeros for padding."""
        vectors = {name: part(tokens_R) for name, part in self.parts.items()}
        there_R = None
        if "id" in vectors and self.training and self.id_dropout > 0:
            there_R = torch.rand(tokens_R.shape, device=tokens_R.device) >= self.id_dropout
        return self._mix(vectors, there_R) * (tokens_R > 0)[:, None]

    def from_content(self, tokens_R: Tensor) -> Tensor:
        """Vectors [R, D] of items of the attached content that have no id here."""
        vectors = {name: part(tokens_R) for name, part in self.parts.items() if name != "id"}
        return self._mix(vectors, None) * (tokens_R > 0)[:, None]

    def _mix(self, vectors: dict[str, Tensor], id_there_R: Tensor | None) -> Tensor:
        """The parts together, the id's part only where it is there."""
        if self.gates is None:
            if id_there_R is not None:
                vectors = {**vectors, "id": vectors["id"] * id_there_R[:, None]}
            return torch.stack(tuple(vectors.values())).sum(dim=0)
        logits = {name: self.gates[name](vector) for name, vector in vectors.items()}
        if id_there_R is not None:
            logits["id"] = logits["id"].masked_fill(~id_there_R[:, None], -torch.inf)
        shares_RN = torch.cat(tuple(logits.values()), dim=1).softmax(dim=1)
        return torch.einsum("rn,nrd->rd", shares_RN, torch.stack(tuple(vectors.values())))

    def _content_parts(self) -> list[nn.Module]:
        return [part for name, part in self.parts.items() if name != "id"]
