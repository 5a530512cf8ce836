"""A model composed of a user encoder, an item encoder, a scorer and a loss, each named in an explicit dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from recsys_spark.models.composition import Composition
from recsys_spark.models.history_scorer import HistoryScorer
from recsys_spark.models.item_encoders.bias import ItemBias
from recsys_spark.models.item_encoders.id import IdItems
from recsys_spark.models.losses.bce import bce_loss
from recsys_spark.models.losses.protocol import Loss
from recsys_spark.models.losses.softmax import softmax_loss
from recsys_spark.models.scorers.dot import Dot
from recsys_spark.models.scorers.neumf import NeuMF
from recsys_spark.models.step import Step
from recsys_spark.models.user_encoders.gru import GRUHistory
from recsys_spark.models.user_encoders.mean import MeanHistory

USER_ENCODERS: dict[str, Callable[[int, int, float], nn.Module]] = {"mean": MeanHistory, "gru": GRUHistory}
ITEM_ENCODERS: dict[str, Callable[[int, int], nn.Module]] = {"id": IdItems}
SCORERS: dict[str, Callable[[int, int], nn.Module]] = {"dot": Dot, "neumf": NeuMF}
LOSSES: dict[str, Loss] = {"full_softmax": softmax_loss, "sampled_softmax": softmax_loss, "bce": bce_loss}
NEGATIVES: dict[str, Literal["all", "shared", "each"]] = {
    "full_softmax": "all",
    "sampled_softmax": "shared",
    "bce": "each",
}
"""Which negatives a loss takes: the whole catalogue, some shared by the step, or some for each position."""


class ComposedModel(nn.Module):
    """The parts under one roof. Parameters are not drawn until `reset_parameters`."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.composition = composition
        self.item_encoder = ITEM_ENCODERS[composition.item_encoder](composition.num_items, composition.dim)
        self.item_bias = ItemBias(composition.num_items)
        self.user_encoder = make_user_encoder(composition)
        self.scorer = make_scorer(composition)
        self._loss = LOSSES[composition.loss]

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw every parameter anew, in a fixed order: the same generator state gives the same model."""
        for part in (self.item_encoder, self.item_bias, self.user_encoder, self.scorer):
            part.reset_parameters(generator)

    def forward(self, step: Step) -> Tensor:
        """The sum of the losses over the real positions of a step; padding takes no part in it."""
        vectors_RD = self.item_encoder(step.tokens_R)
        biases_R = self.item_bias(step.tokens_R)
        inputs_BLD = vectors_RD.index_select(0, step.inputs_BL.flatten()).view(*step.inputs_BL.shape, -1)
        users_BLD = self.user_encoder(inputs_BLD)
        users_PD = users_BLD.flatten(0, 1).index_select(0, step.positions_P)
        return self._loss(self.scorer, users_PD, vectors_RD, biases_R, step.targets_P, step.negatives)

    @torch.no_grad()
    def history_scorer(self) -> HistoryScorer:
        """The model as it scores: item vectors computed for the whole catalogue."""
        tokens_I = torch.arange(self.composition.num_items + 1, device=self.item_bias.weight.device)
        return HistoryScorer(
            user_encoder=self.user_encoder,
            scorer=self.scorer,
            vectors_ID=self.item_encoder(tokens_I),
            biases_I=self.item_bias.weight[1:, 0].contiguous(),
        )


def make_user_encoder(composition: Composition) -> nn.Module:
    """The user encoder of a composition, parameters not drawn."""
    return USER_ENCODERS[composition.user_encoder](composition.dim, composition.layers, composition.dropout)


def make_scorer(composition: Composition) -> nn.Module:
    """The scorer of a composition, parameters not drawn."""
    return SCORERS[composition.scorer](composition.dim, composition.layers)
