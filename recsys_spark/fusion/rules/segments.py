"""Which users are in a segment: by the events of their history, or by a stored list of users.

A segment of events can be told of anyone, strangers included. One of an attribute (age band, income) was settled when
the model was saved: its users are bits at their indices, and whoever has no index is in it or not as `unknown` says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_spark.fusion.rules.compiled import Segment
from recsys_spark.recommenders.batch import UserBatch


def in_segment(segment: Segment, batch: UserBatch) -> Tensor:
    """[B] bool: is each user of the batch in the segment. All conditions that it has must hold."""
    inside_B = torch.ones(batch.size, dtype=torch.bool)
    if segment.min_events is not None:
        inside_B &= batch.lengths >= segment.min_events
    if segment.max_events is not None:
        inside_B &= batch.lengths <= segment.max_events
    if segment.members is not None:
        inside_B &= _listed(segment.members, batch, segment.unknown)
    return inside_B


def _listed(members: Tensor, batch: UserBatch, unknown: bool) -> Tensor:
    index_B = torch.zeros(batch.size, dtype=torch.int64) if batch.user_index is None else batch.user_index
    known_B = (index_B > 0) & (index_B < 8 * members.numel())
    index_B = torch.where(known_B, index_B, 0)
    bytes_B = members[index_B // 8] if members.numel() else torch.zeros(batch.size, dtype=torch.uint8)
    bits_B = (bytes_B.to(torch.int64) >> (index_B % 8)) & 1
    return torch.where(known_B, bits_B.bool(), unknown)
