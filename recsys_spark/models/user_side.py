"""The user side of a model: what is known of each event, and the encoder that reads it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composition import Composition
from recsys_spark.models.packed import History
from recsys_spark.models.user_encoders.context import HistoryContext
from recsys_spark.models.user_encoders.id import IdUsers
from recsys_spark.models.user_encoders.mean import MeanHistory
from recsys_spark.models.user_encoders.recurrent import RecurrentHistory
from recsys_spark.models.user_encoders.transformer import Transformer

USER_ENCODERS: dict[str, Callable[[Composition], nn.Module]] = {
    "id": IdUsers,
    "mean": MeanHistory,
    "gru": RecurrentHistory,
    "lstm": RecurrentHistory,
    "transformer": Transformer,
}


class UserSide(nn.Module):
    """f_u: a user vector after each position of each history, of which it sees the last `max_length` events."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.max_length = composition.max_length
        self.context = HistoryContext(composition)
        self.encoder = USER_ENCODERS[composition.user_encoder](composition)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw both parts anew."""
        self.context.reset_parameters(generator)
        self.encoder.reset_parameters(generator)

    def forward(self, inputs_PD: Tensor, history: History) -> Tensor:
        """User vectors [P, D] of the item vectors read. A table of users says the same at all positions of a row."""
        if isinstance(self.encoder, IdUsers):
            assert history.users_U is not None
            assert history.user_B is not None
            return F.embedding(history.user_B[history.rows.row_P], self.encoder(history.users_U))
        users_PD: Tensor = self.encoder(self.context(inputs_PD, history), history.rows)
        return users_PD

    def last(self, tokens_P: Tensor, vectors_ID: Tensor, history: History) -> Tensor:
        """User vectors [B, D] after the last position of each row, of tokens whose vectors are rows of `vectors_ID`.

        In evaluation mode some encoders know how to come there without the positions before.
        """
        if self.training or not isinstance(self.encoder, RecurrentHistory | MeanHistory):
            users_PD: Tensor = self(F.embedding(tokens_P, vectors_ID), history)
            return users_PD.index_select(0, history.rows.last_B)
        if self.context.silent:
            tokens_T, token_P = torch.unique(tokens_P, return_inverse=True)
            return self.encoder.last(F.embedding(tokens_T, vectors_ID), token_P, history.rows)
        inputs_PD = self.context(F.embedding(tokens_P, vectors_ID), history)
        return self.encoder.last(inputs_PD, torch.arange(len(inputs_PD), device=inputs_PD.device), history.rows)

    def parts_of_nothing(self, history: History) -> list[Tensor]:
        """What gets a gradient of zeros where a process has no positions in a step."""
        if isinstance(self.encoder, IdUsers):
            assert history.users_U is not None
            return [self.encoder(history.users_U)]
        return [*self.parameters()]

    def known(self, user_index_B: Tensor | None, lengths_B: Tensor) -> Tensor:
        """Which users [B] can be encoded: those with a history, or where users are a table, those in it."""
        if not isinstance(self.encoder, IdUsers):
            return lengths_B > 0
        if user_index_B is None:
            return torch.zeros_like(lengths_B, dtype=torch.bool)
        return self.encoder.known(user_index_B)
