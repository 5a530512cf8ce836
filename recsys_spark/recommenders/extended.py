"""Items that a fit never saw, from their content alone: what a bundle keeps for them, and how it is used.

Their vectors are those that training made where it hid the id. No item has a bias without events, so it is foretold
from the vector, by ridge regression over the fit's items: what sells of such things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from recsys_spark.errors import UserError
from recsys_spark.models.composition import Composition
from recsys_spark.models.content import Content
from recsys_spark.models.item_encoders.combined import CombinedItems

PREFIX = "content."
"""The tensors of a bundle that begin so are kept for items that the fit never saw."""
BIAS = f"{PREFIX}bias"
RIDGE = 0.01
"""Penalty of the regression, times the mean variance of a dimension and the number of items."""


@torch.no_grad()
def kept_for_new_items(encoder: CombinedItems, biases_I: Tensor) -> dict[str, Tensor]:
    """What the bundle of a trained item encoder, its content attached, keeps: all but the ids' part. Empty without any.

    `biases_I` are those of the fit's items.
    """
    if not set(encoder.parts) - {"id"}:
        return {}
    encoder.eval()
    hidden = ("parts.id.", "gates.id.")
    state = {name: value for name, value in encoder.state_dict().items() if not name.startswith(hidden)}
    tokens_I = torch.arange(1, biases_I.numel() + 1, device=biases_I.device)
    bias = _regression(encoder.from_content(tokens_I).double(), biases_I.double())
    return {**{f"{PREFIX}encoder.{name}": value for name, value in state.items()}, BIAS: bias.float()}


@torch.no_grad()
def new_items(composition: Composition, kept: Mapping[str, Tensor], content: Content) -> tuple[Tensor, Tensor]:
    """Vectors [C, D] and biases [C] of the items of a content, by what a bundle keeps for them.

    Raises UserError where it keeps nothing: items are known by their ids alone.
    """
    parts = tuple(name for name in composition.item_encoders if name != "id")
    if not parts or BIAS not in kept:
        raise UserError("the recommender knows items by their ids alone; name another item_encoder and fit it again")
    own = replace(composition, item_encoders=parts, combine=composition.combine if len(parts) > 1 else "sum")
    with torch.device("meta"):
        encoder = CombinedItems(own)
    prefix = f"{PREFIX}encoder."
    state = {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}
    if own.combine == "sum":
        state = {name: value for name, value in state.items() if name.startswith("parts.")}
    encoder.load_state_dict(state, assign=True)
    encoder.eval()
    encoder.attach(content)
    vectors_CD = encoder(torch.arange(1, content.num_items + 1))
    weight, intercept = kept[BIAS][:-1], kept[BIAS][-1]
    return vectors_CD, vectors_CD @ weight + intercept


def _regression(vectors_ID: Tensor, values_I: Tensor) -> Tensor:
    """[D + 1] weights and intercept of the ridge regression of values on vectors."""
    mean_D, mean = vectors_ID.mean(dim=0), values_I.mean()
    centred_ID = vectors_ID - mean_D
    gram_DD = centred_ID.T @ centred_ID
    penalty = RIDGE * gram_DD.diagonal().mean().clamp(min=1e-9)
    gram_DD.diagonal().add_(penalty)
    weight_D = torch.linalg.solve(gram_DD, centred_ID.T @ (values_I - mean))
    return torch.cat((weight_D, (mean - mean_D @ weight_D)[None]))
