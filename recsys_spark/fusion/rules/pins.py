"""Pins: which items stand at fixed places of each user's list."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recsys_spark.fusion.rules.compiled import Cap, ListRules, Pin


def active_pins(rules: ListRules, now: int, k: int) -> tuple[Pin, ...]:
    """The pins that hold at `now` and fit a list of `k`, by position."""
    return tuple(pin for pin in rules.pins if pin.window.holds(now) and pin.position <= k)


def pinned(
    pins: Sequence[Pin], scores_BI: Tensor, inside_BS: Tensor, names: Sequence[str], caps: Sequence[Cap]
) -> tuple[Tensor, Tensor]:
    """Codes and positions [B, P] of each user's pins, by position and from the left; -1 behind the last.

    Left out are pins of other segments (`names` are those of `inside_BS` [B, S]), of items with the score -inf, of an
    item or a position that an earlier pin has taken, and those that would break a cap.
    """
    rows = scores_BI.shape[0]
    codes_BP = torch.full((rows, len(pins)), -1, dtype=torch.int64)
    taken_BP = torch.zeros((rows, len(pins)), dtype=torch.int64)
    for place, pin in enumerate(pins):
        here_B = torch.isfinite(scores_BI[:, pin.code])
        if pin.segment is not None:
            here_B = here_B & inside_BS[:, names.index(pin.segment)]
        here_B = here_B & ~(codes_BP == pin.code).any(1) & ~(taken_BP == pin.position).any(1)
        for cap in caps:
            group = int(cap.groups_I[pin.code])
            if group:
                same_BP = (codes_BP >= 0) & (cap.groups_I[codes_BP.clamp_min(0)] == group)
                here_B = here_B & (same_BP.sum(1) < cap.at_most)
        codes_BP[:, place] = torch.where(here_B, pin.code, -1)
        taken_BP[:, place] = torch.where(here_B, pin.position, 0)
    order = torch.argsort((codes_BP < 0).to(torch.int8), dim=1, stable=True)
    return codes_BP.gather(1, order), taken_BP.gather(1, order)
