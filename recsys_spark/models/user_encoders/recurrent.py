"""Recurrent networks over the history: a GRU (GRU4Rec, Hidasi and Karatzoglou 2018) or an LSTM."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recsys_spark.models.composition import Composition
from recsys_spark.models.packed import Rows
from recsys_spark.models.user_encoders.cells import GRUStates, LSTMStates, last_gru_states

FEW_ROWS = 4
"""So many rows cost mostly the calls, of which torch's own layer needs the fewest."""
ROWS_AT_ONCE = 512
"""Rows that are read at once where their last states alone are wanted: these and their gates stay in the cache."""


class RecurrentHistory(nn.Module):
    """A user is the projected state of a network that has read the history so far."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        dim, layers, dropout = composition.dim, composition.layers, composition.dropout
        self.input_dropout = nn.Dropout(dropout if composition.input_dropout is None else composition.input_dropout)
        self.dropout = nn.Dropout(dropout)
        network = {"gru": nn.GRU, "lstm": nn.LSTM}[composition.user_encoder]
        self.network = network(dim, dim, num_layers=layers, dropout=dropout if layers > 1 else 0.0)
        self.project = nn.Linear(dim, dim)
        self._states = {"gru": GRUStates.apply, "lstm": LSTMStates.apply}[composition.user_encoder]

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw every parameter uniformly within one over the square root of the width."""
        bound = 1.0 / math.sqrt(self.network.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, inputs_PD: Tensor, rows: Rows) -> Tensor:
        """User vectors [P, D]: what the network knows after each position; real positions alone are computed."""
        sequence = rows.to_packed_sequence(self.input_dropout(inputs_PD))
        if inputs_PD.device.type == "cpu":
            states = PackedSequence(self._on_cpu(sequence.data, sequence.batch_sizes.tolist()), sequence.batch_sizes)
        else:
            with torch.autocast(inputs_PD.device.type, enabled=False):  # cuDNN's layer is slower in bfloat16
                states, _ = self.network(PackedSequence(sequence.data.float(), sequence.batch_sizes))
        users_PD: Tensor = self.project(self.dropout(rows.from_packed_sequence(states)))
        return users_PD

    def last(self, inputs_TD: Tensor, token_P: Tensor, rows: Rows) -> Tensor:
        """User vectors [B, D] after the last position of each row alone, without gradients or dropout.

        Inputs [T, D] are told once each, `token_P` says which one stands at each position: what gates make of an input
        is computed once, and states before the last are not kept.
        """
        if self.network.num_layers > 1 or isinstance(self.network, nn.LSTM) or inputs_TD.device.type != "cpu":
            users_PD: Tensor = self.forward(F.embedding(token_P, inputs_TD), rows)
            return users_PD.index_select(0, rows.last_B)
        order_B = rows.lengths_B.argsort(descending=True, stable=True)
        states_BD = inputs_TD.new_empty(rows.size, self.network.hidden_size)
        if rows.size <= FEW_ROWS:
            _, last_1BD = self.network(rows.to_packed_sequence(F.embedding(token_P, inputs_TD)))
            states_BD[order_B] = last_1BD[0]
            few_BD: Tensor = self.project(states_BD)
            return few_BD
        [(weight_input, weight_state, bias_input, bias_state)] = self.network.all_weights
        gates_TG = F.linear(inputs_TD, weight_input, bias_input)
        for some in order_B.split(ROWS_AT_ONCE):
            lengths = rows.lengths_B[some]
            states_BD[some] = last_gru_states(gates_TG, token_P, rows.starts_B[some], lengths, weight_state, bias_state)
        last_BD: Tensor = self.project(states_BD)
        return last_BD

    def _on_cpu(self, values_PD: Tensor, sizes: list[int]) -> Tensor:
        """What `network` computes, layer by layer."""
        for layer, (weight_input, weight_state, bias_input, bias_state) in enumerate(self.network.all_weights):
            if layer:
                values_PD = F.dropout(values_PD, self.network.dropout, self.training)
            gates_PG = F.linear(values_PD, weight_input, bias_input)
            values_PD = self._states(gates_PG, weight_state, bias_state, sizes)
        return values_PD
