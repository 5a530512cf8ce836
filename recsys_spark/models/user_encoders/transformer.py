"""A causal transformer over the history (SASRec, Kang and McAuley 2018), normalised before each sublayer.

Places are counted from the start of the row. So the vector after a position depends on nothing behind it, not even on
how much there is, and is exactly what the model says of a user whose history ends there: what is trained at every
position is what is served. (Places counted back from the newest event would tell a position how many events follow.)

Everything but attention works on packed positions; attention runs over rows of similar length. There is no dropout on
the attention weights: the fused kernels of CPUs do not offer it, and both sublayers have dropout on their outputs.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from recsys_spark.models.composition import Composition
from recsys_spark.models.packed import Rows

WIDENING = 4
"""Width of the feed-forward layer as a multiple of D."""
GPU_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""All but cuDNN's, which makes a plan for each new shape: every step has new ones."""


class Transformer(nn.Module):
    """Learned places, layers of attention and feed-forward, one last normalisation."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        dim = composition.dim
        self.places = nn.Parameter(torch.empty(composition.max_length, dim))
        given = composition.input_dropout
        self.dropout = nn.Dropout(composition.dropout if given is None else given)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, composition.heads, composition.dropout) for _ in range(composition.layers)
        )
        self.norm = nn.LayerNorm(dim)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw everything; the more layers, the less each adds at first."""
        nn.init.normal_(self.places, std=0.02, generator=generator)
        for layer in self.layers:
            layer.reset_parameters(generator, scale=1.0 / math.sqrt(2 * len(self.layers)))
        _reset_norm(self.norm)

    def forward(self, inputs_PD: Tensor, rows: Rows) -> Tensor:
        """User vectors [P, D]: position p has attended to its row up to p."""
        # Item vectors have length 1; the residual stream has one unit in each dimension, as the norms give it.
        stream_PD = inputs_PD * math.sqrt(inputs_PD.shape[1]) + F.embedding(rows.place_P, self.places)
        stream_PD = self.dropout(stream_PD)
        with _kernels(stream_PD.device):
            for layer in self.layers:
                stream_PD = layer(stream_PD, rows)
        users_PD: Tensor = self.norm(stream_PD)
        return users_PD


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each on the normalised stream and added to it."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.attended = nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, WIDENING * dim), nn.Linear(WIDENING * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self, generator: torch.Generator, scale: float) -> None:
        """Draw the weights (Glorot); `scale` makes smaller what is added to the stream."""
        for norm in (self.attention_norm, self.forward_norm):
            _reset_norm(norm)
        for linear, gain in (
            (self.query_key_value, 1.0),
            (self.attended, scale),
            (self.wide, 1.0),
            (self.narrow, scale),
        ):
            nn.init.xavier_uniform_(linear.weight, gain=gain, generator=generator)
            nn.init.zeros_(linear.bias)

    def forward(self, stream_PD: Tensor, rows: Rows) -> Tensor:
        """The stream [P, D] with both sublayers added."""
        stream_PD = stream_PD + self.dropout(self.attended(self._attend(self.attention_norm(stream_PD), rows)))
        return stream_PD + self.dropout(self.narrow(F.gelu(self.wide(self.forward_norm(stream_PD)))))

    def _attend(self, normal_PD: Tensor, rows: Rows) -> Tensor:
        mixed = []
        for group in rows.to_groups(self.query_key_value(normal_PD)):
            # Padding stands behind the real positions, so that causality alone hides it from them.
            query, key, value = group.view(*group.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed.append(F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2))
        return rows.from_groups(mixed)


def _kernels(device: torch.device) -> AbstractContextManager[object]:
    return sdpa_kernel(GPU_KERNELS) if device.type == "cuda" else nullcontext()


def _reset_norm(norm: nn.LayerNorm) -> None:
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
