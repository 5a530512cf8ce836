"""Steps over the whole catalogue, so that rows are tokens."""

from __future__ import annotations

import torch

from recsys_spark.models.composed import NEGATIVES, ComposedModel
from recsys_spark.models.composition import Composition
from recsys_spark.models.packed import History, Rows
from recsys_spark.models.step import Negatives, Step

ITEMS, USERS, DIM, LENGTH = 9, 6, 8, 6


def composition(user_encoder: str = "gru", scorer: str = "dot", loss: str = "full_softmax", **changes) -> Composition:
    sizes = {"dim": DIM, "num_items": ITEMS, "max_length": LENGTH, "num_users": USERS if user_encoder == "id" else 0}
    return Composition(user_encoder=user_encoder, scorer=scorer, loss=loss, **{**sizes, **changes})


def model(*parts: str, seed: int = 0, **changes) -> ComposedModel:
    made = ComposedModel(composition(*parts, **changes))
    made.reset_parameters(torch.Generator().manual_seed(seed))
    return made


def history(lengths: list[int]) -> History:
    """Histories of users 1, 2, ..., whose event n is of type n % 6 and comes an hour times 2 ** n after the last."""
    rows = Rows(torch.tensor(lengths))
    users = torch.arange(1, rows.size + 1)
    return History(rows, rows.place_P % 6, 3600 * 2**rows.place_P, users, users - 1)


def step(histories: list[list[int]], loss: str) -> Step:
    """Tokens of each history, of which the last is a target alone."""
    inputs = torch.tensor([token for tokens in histories for token in tokens[:-1]])
    targets = torch.tensor([token for tokens in histories for token in tokens[1:]])
    if NEGATIVES[loss] == "each":
        shape = (targets.numel(), 2)
        negatives = Negatives(torch.full(shape, 9), torch.zeros(shape), torch.zeros(targets.numel()))
    else:
        negatives = Negatives(torch.arange(1, ITEMS + 1), torch.zeros(ITEMS))
    lengths = [len(tokens) - 1 for tokens in histories]
    return Step(torch.arange(ITEMS + 1), inputs, history(lengths), targets, negatives)
