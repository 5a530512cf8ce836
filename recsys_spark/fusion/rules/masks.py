"""What must not stand in a list: masks on a block of scores, where -inf is out.

Hard rules hold always: blocked, out of stock, price bounds (one mask over the items), the segments' categories, and
under `drop` what the user bought. The usual interval is soft: it gives way where it would leave a list empty.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_spark.fusion.rules.compiled import ListRules

Pairs = tuple[Tensor, Tensor]
"""Rows and codes."""


def apply_hard(scores_BI: Tensor, rules: ListRules, inside_BS: Tensor, dropped: Pairs | None) -> None:
    """Write -inf over all that a hard rule forbids. `inside_BS` [B, S] bool: the segments of each user."""
    scores_BI.masked_fill_(~rules.available_I, -torch.inf)
    for place, segment in enumerate(rules.segments):
        inside_B = inside_BS[:, place]
        if segment.forbidden_I is not None and bool(inside_B.any()):
            scores_BI.masked_fill_(inside_B[:, None] & segment.forbidden_I, -torch.inf)
    if dropped is not None:
        scores_BI[dropped] = -torch.inf


def of_rows(pairs: Pairs, rows: Tensor, size: int) -> Pairs:
    """The pairs of some rows of `size`, with the rows numbered by their place in `rows`."""
    place = torch.full((size,), -1, dtype=torch.int64)
    place[rows] = torch.arange(rows.numel())
    kept = place[pairs[0]] >= 0
    return place[pairs[0]][kept], pairs[1][kept]
