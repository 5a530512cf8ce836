"""A model composed of a user encoder, an item encoder, a scorer and a loss, each named in an explicit dict."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composition import Composition
from recsys_spark.models.history_scorer import HistoryScorer
from recsys_spark.models.item_encoders.bias import ItemBias
from recsys_spark.models.item_encoders.combined import CombinedItems, make_item_encoder
from recsys_spark.models.item_encoders.id import IdItems
from recsys_spark.models.losses.bce import bce_loss
from recsys_spark.models.losses.bpr import bpr_loss
from recsys_spark.models.losses.gbce import GBCE
from recsys_spark.models.losses.protocol import Loss
from recsys_spark.models.losses.softmax import softmax_loss
from recsys_spark.models.scorers.cosine import Cosine
from recsys_spark.models.scorers.dot import Dot
from recsys_spark.models.scorers.neumf import NeuMF
from recsys_spark.models.step import Step
from recsys_spark.models.user_side import UserSide

if TYPE_CHECKING:
    from recsys_spark.models.content import Content

SCORERS: dict[str, Callable[[Composition], nn.Module]] = {"dot": Dot, "cosine": Cosine, "neumf": NeuMF}
LOSSES: dict[str, Callable[[Composition, bool], Loss]] = {
    "full_softmax": lambda _, half: partial(softmax_loss, half=half),
    "sampled_softmax": lambda _, half: partial(softmax_loss, half=half),
    "in_batch": lambda _, half: partial(softmax_loss, half=half),
    "bce": lambda _, __: bce_loss,
    "bpr": lambda _, __: bpr_loss,
    "gbce": lambda composition, _: GBCE(composition.num_items, composition.calibration),
}
"""(composition, are large products taken in bfloat16) -> the loss."""
NEGATIVES: dict[str, Literal["all", "shared", "targets", "each"]] = {
    "full_softmax": "all",
    "sampled_softmax": "shared",
    "in_batch": "targets",
    "bce": "each",
    "bpr": "each",
    "gbce": "each",
}
"""Which negatives a loss takes: the whole catalogue, some shared by the step, the step's targets, or some for each
position."""


class ComposedModel(nn.Module):
    """The parts under one roof. Parameters are not drawn until `reset_parameters`.

    `precision` "bf16" takes the loss's large products in bfloat16; all else is as the caller's autocast has it.
    """

    def __init__(self, composition: Composition, precision: Literal["float32", "bf16"] = "float32") -> None:
        super().__init__()
        self.composition = composition
        self.item_encoder = make_item_encoder(composition)
        self.item_bias = ItemBias(composition.num_items)
        self.user_side = UserSide(composition)
        self.scorer = make_scorer(composition)
        self._loss = LOSSES[composition.loss](composition, precision == "bf16")

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw every parameter anew, in a fixed order: the same generator state gives the same model."""
        for part in (self.item_encoder, self.item_bias, self.user_side, self.scorer):
            part.reset_parameters(generator)

    def attach(self, content: Content) -> None:
        """Give the item encoder what it reads; it is no part of the state."""
        if hasattr(self.item_encoder, "attach"):
            self.item_encoder.attach(content)

    def start_from_content(self, content: Content) -> None:
        """Before training: begin with what the content has learned already, such as its word vectors."""
        if isinstance(self.item_encoder, CombinedItems):
            self.item_encoder.start_from_content(content)

    def start_ids_from_histories(self, content: Content) -> None:
        """Before training: begin the table by id at the content's vectors of the items."""
        assert content.item_vectors_I is not None, "whoever asks for them has written them"
        for module in self.modules():
            if isinstance(module, IdItems):
                module.start_from(content.item_vectors_I)

    def end_epoch(self) -> None:
        """After each epoch: take in what was learned where it is only looked at then."""
        if isinstance(self.item_encoder, CombinedItems):
            self.item_encoder.end_epoch()

    def sparse_tables(self) -> list[nn.Parameter]:
        """The parameters whose gradient is sparse: rows of the step alone, the same rows on every process."""
        return [
            parameter
            for module in self.modules()
            if getattr(module, "sparse_gradient", False)
            for parameter in module.parameters(recurse=False)
        ]

    def averaged_parameters(self) -> dict[str, nn.Parameter]:
        """What averages along the way are taken of, by name: all but a language model's adapters.

        Texts are read with the adapters as they were when an epoch began, which no average of them would match.
        """
        return {name: parameter for name, parameter in self.named_parameters() if ".adapters." not in name}

    def forward(self, step: Step) -> Tensor:
        """The sum of the losses over the positions of a step."""
        vectors_RD = self.item_encoder(step.tokens_R)
        biases_R = self.item_bias(step.tokens_R)
        if step.positions == 0:
            return self._nothing(step, vectors_RD, biases_R)
        users_PD = self.user_side(F.embedding(step.inputs_P, vectors_RD), step.history)
        return self._loss(self.scorer, users_PD, vectors_RD, biases_R, step.targets_P, step.negatives)

    def _nothing(self, step: Step, vectors_RD: Tensor, biases_R: Tensor) -> Tensor:
        """Zero, with a gradient of zeros where a step with positions has one: other processes exchange theirs."""
        touched = [vectors_RD, biases_R, *self.user_side.parts_of_nothing(step.history), *self.scorer.parameters()]
        return torch.stack([part.sum() * 0.0 for part in touched]).sum()

    @torch.no_grad()
    def history_scorer(self) -> HistoryScorer:
        """The model as it scores: item vectors computed for the whole catalogue."""
        tokens_I = torch.arange(self.composition.num_items + 1, device=self.item_bias.weight.device)
        return HistoryScorer(
            user_side=self.user_side,
            scorer=self.scorer,
            vectors_ID=self.item_encoder(tokens_I),
            biases_I=self.item_bias.weight[1:, 0].contiguous(),
        )


def make_scorer(composition: Composition) -> nn.Module:
    """The scorer of a composition, parameters not drawn."""
    return SCORERS[composition.scorer](composition)
