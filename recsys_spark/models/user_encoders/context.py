"""What an event was and how long after the one before it came, added to its item's vector."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.models.composition import Composition
from recsys_spark.models.packed import History

MINUTE = 60.0
GAP_BUCKETS = 23
"""0: a row's first event; 1: within a minute; then a bucket for each doubling, the last one from two years on."""


class HistoryContext(nn.Module):
    """Embeddings of event types and of time gaps, each where the composition asks for it."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        dim = composition.dim
        self.event_types = nn.Parameter(torch.empty(len(EVENT_TYPES), dim)) if composition.event_types else None
        self.gaps = nn.Parameter(torch.empty(GAP_BUCKETS, dim)) if composition.time_gaps else None

    @property
    def silent(self) -> bool:
        """Is an event nothing but its item."""
        return self.event_types is None and self.gaps is None

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw small vectors: at the start the item counts most."""
        for table in self.parameters():
            nn.init.normal_(table, std=0.1 / math.sqrt(table.shape[1]), generator=generator)

    def forward(self, inputs_PD: Tensor, history: History) -> Tensor:
        """The inputs [P, D] with what is known of each event added."""
        if self.event_types is not None:
            assert history.event_types_P is not None
            inputs_PD = inputs_PD + F.embedding(history.event_types_P, self.event_types)
        if self.gaps is not None:
            assert history.gaps_P is not None
            inputs_PD = inputs_PD + F.embedding(gap_buckets(history.gaps_P, history.rows.place_P), self.gaps)
        return inputs_PD


def gap_buckets(gaps_P: Tensor, place_P: Tensor) -> Tensor:
    """Buckets [P] of gaps in seconds: logarithmic, since an hour more matters after a minute and not after a year."""
    doublings_P = torch.log2((gaps_P.to(torch.float32) / MINUTE).clamp(min=0.5)).floor().to(torch.int64)
    return torch.where(place_P == 0, 0, (doublings_P + 2).clamp(max=GAP_BUCKETS - 1))
