"""A user's whole history against an item's attributes: the wide part beside a network that reads the last events.

Wide & Deep (Cheng et al. 2016) puts cross products of history and item beside the network, for what a network of few
dimensions blurs. Here these are lifts: how much more of the item's category, or brand, the user's history holds than
everybody's does,

    lift_a(u, i) = log((n_u,g / p_g + m) / (n_u + m)),    g = the code of attribute a of item i,

with n_u,g the user's events of the code, each weighing 0.5 ** (age / half-life), n_u their sum, p_g the share of the
code in all events of known codes, and m prior events. It is zero for who has no history, and for codes that are not
known. The score rises by the sum over attributes of w_a lift_a; items without any event have it as well as others.

Legend: A attributes, G codes of an attribute (0 is unknown), Q kinds: distinct combinations of codes, so that a user
has Q numbers, not I. B users, N events, I items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from recsys_spark.models.content import Content

PREFIX = "affinity."
"""The tensors of a bundle that begin so are the affinity's."""
COLUMNS = {"category": "categories_I", "brand": "brands_I", "price_band": "price_bands_I"}
"""The codes of a content by attribute."""


@dataclass(frozen=True)
class Decay:
    """How events of a history count."""

    prior: float
    """Events of everybody that each history is thought to begin with, m."""
    half_life_days: float | None
    """Days after which an event counts half; None: never."""


@dataclass(frozen=True)
class Affinity:
    """What of the history weighs how much, and the codes of the items."""

    attributes: tuple[str, ...]
    """Keys of COLUMNS."""
    codes_IA: Tensor
    """[I, A] int64."""
    shares: tuple[Tensor, ...]
    """For each attribute [G] float32, the share of each code in all events of known codes; above zero."""
    weights_A: Tensor
    """[A] float32."""
    decay: Decay

    @classmethod
    def of(cls, attributes: tuple[str, ...], content: Content, sizes: Mapping[str, int], counts_I: Tensor) -> Affinity:
        """Of a fit's items with their events `counts_I`, weights still zero; `sizes` are the largest codes."""
        codes_IA = codes_of(attributes, content)
        shares = []
        for place, name in enumerate(attributes):
            # The unknown code is in no sum, as it is in none of n_u: who is like everybody has no lift.
            events = torch.bincount(codes_IA[:, place], counts_I.double(), minlength=sizes[name] + 1) + 1.0
            shares.append((events / events[1:].sum().clamp_min(1.0)).float())
        return cls(attributes, codes_IA, tuple(shares), torch.zeros(len(attributes)), Decay(1.0, None))

    @cached_property
    def kinds(self) -> tuple[Tensor, Tensor]:
        """Codes [Q, A] of each kind, and the kind [I] of each item."""
        key_I = torch.zeros(len(self.codes_IA), dtype=torch.int64)
        for codes_I, shares_G in zip(self.codes_IA.T, self.shares, strict=True):
            # Numbered anew after each attribute, so that no product of sizes overflows.
            key_I = torch.unique(key_I * shares_G.numel() + codes_I, return_inverse=True)[1]
        kinds = int(key_I.max()) + 1 if key_I.numel() else 0
        codes_QA = torch.zeros(kinds, len(self.attributes), dtype=torch.int64)
        codes_QA[key_I] = self.codes_IA
        return codes_QA, key_I

    def table(self, items_N: Tensor, ages_N: Tensor, row_N: Tensor, size: int) -> Tensor:
        """[B, Q] float32: by how much the score of items of each kind rises. `row_N` is whose event it is, of `size`.

        Ages are days between the event and the moment of recommendation.
        """
        codes_QA, _ = self.kinds
        table_BQ = torch.zeros(size, len(codes_QA))
        for place, weight in enumerate(self._weights):
            lifts_BG = self.lifts(place, items_N, ages_N, row_N, size)
            table_BQ.add_(lifts_BG[:, codes_QA[:, place]], alpha=weight)
        return table_BQ

    def lifts(self, place: int, items_N: Tensor, ages_N: Tensor, row_N: Tensor, size: int) -> Tensor:
        """[B, G] float32 lifts of the codes of one attribute."""
        shares_G, half_life = self.shares[place], self.decay.half_life_days
        codes_N = self.codes_IA[:, place][items_N]
        weight_N = torch.ones(len(ages_N), dtype=torch.float64) if half_life is None else 0.5 ** (ages_N / half_life)
        weight_N = weight_N * (codes_N > 0)
        cells = size * shares_G.numel()
        counts_BG = torch.bincount(row_N * shares_G.numel() + codes_N, weight_N, minlength=cells).float()
        counts_BG = counts_BG.view(size, shares_G.numel())
        sums_B1 = counts_BG.sum(dim=1, keepdim=True)
        lifts_BG = counts_BG.div_(shares_G).add_(self.decay.prior).div_(sums_B1 + self.decay.prior).log_()
        lifts_BG[:, 0] = 0.0
        return lifts_BG

    def extended(self, content: Content) -> Affinity:
        """With further items behind, that a content of the same fit describes."""
        return replace(self, codes_IA=torch.cat((self.codes_IA, codes_of(self.attributes, content))))

    def numbers(self) -> dict[str, float | None]:
        """What was learnt, by name."""
        weights = {f"affinity_{name}": weight for name, weight in zip(self.attributes, self._weights, strict=True)}
        decay = {"affinity_prior": self.decay.prior, "affinity_half_life_days": self.decay.half_life_days}
        return {**weights, **decay}

    @property
    def _weights(self) -> list[float]:
        return [float(weight) for weight in self.weights_A]

    def tensors(self) -> dict[str, Tensor]:
        """What a bundle keeps."""
        named = {f"{PREFIX}shares.{name}": share for name, share in zip(self.attributes, self.shares, strict=True)}
        return {**named, f"{PREFIX}codes": self.codes_IA.to(torch.int32), f"{PREFIX}weights": self.weights_A}

    def settings(self) -> dict[str, Any]:
        """What a bundle's configuration keeps, as JSON values."""
        values = {"prior": self.decay.prior, "half_life_days": self.decay.half_life_days}
        return {"attributes": list(self.attributes), **values}

    @classmethod
    def from_bundle(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Affinity:
        """Of what a bundle kept."""
        names = tuple(settings["attributes"])
        return cls(
            attributes=names,
            codes_IA=tensors[f"{PREFIX}codes"].long(),
            shares=tuple(tensors[f"{PREFIX}shares.{name}"] for name in names),
            weights_A=tensors[f"{PREFIX}weights"],
            decay=Decay(settings["prior"], settings["half_life_days"]),
        )


def codes_of(attributes: tuple[str, ...], content: Content) -> Tensor:
    """[I, A] int64 codes of the items of a content."""
    return torch.stack([getattr(content, COLUMNS[name])[1:] for name in attributes], dim=1)


def add_gathered(scores_BI: Tensor, table_BQ: Tensor, kind_I: Tensor) -> None:
    """Add to each row of scores its own table's numbers at each item's kind, row by row: no second [B, I] is made."""
    row_I = torch.empty(kind_I.numel())
    for scores_I, table_Q in zip(scores_BI, table_BQ, strict=True):
        scores_I.add_(torch.index_select(table_Q, 0, kind_I, out=row_I))
