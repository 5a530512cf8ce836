"""Leaving an item out of a history and scoring again: what an item is worth to a score, whatever the recommender.

Letters as in `batch`; R is the number of histories from which something was left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recsys_spark.recommenders.batch import UserBatch

if TYPE_CHECKING:
    from recsys_spark.recommenders.base import Recommender

HISTORIES_AT_ONCE = 1024
"""Histories with something left out that are scored at a time."""


@dataclass(frozen=True)
class LeftOut:
    """Histories to be scored anew: row r is that of `users[r]` without the events of `items[r]`."""

    users: Tensor
    """[R] int64 rows of the batch, ascending."""
    items: Tensor
    """[R] int64 codes."""

    @property
    def size(self) -> int:
        """Number of histories R."""
        return int(self.users.numel())


def without(batch: UserBatch, left_out: LeftOut) -> UserBatch:
    """The batch of R histories: each user's without all events of one of its items; ages stay as they were."""
    lengths_R = batch.lengths[left_out.users]
    row_P = torch.repeat_interleave(torch.arange(left_out.size), lengths_R)
    before_R = torch.cumsum(lengths_R, 0) - lengths_R
    place_P = torch.arange(row_P.numel()) + (batch.offsets[left_out.users] - before_R)[row_P]
    kept_P = batch.items[place_P] != left_out.items[row_P]
    row_P, place_P = row_P[kept_P], place_P[kept_P]
    offsets = torch.zeros(left_out.size + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(row_P, minlength=left_out.size), 0, out=offsets[1:])
    return UserBatch(
        items=batch.items[place_P],
        event_types=batch.event_types[place_P],
        weights=batch.weights[place_P],
        ages=batch.ages[place_P],
        offsets=offsets,
        user_index=None if batch.user_index is None else batch.user_index[left_out.users],
    )


def last_items(batch: UserBatch, users_B: Tensor, window: int, most: int) -> LeftOut:
    """The `most` items met last among the last `window` events of the users where `users_B` [B] is true."""
    from_end_N = batch.offsets[1:][batch.users] - 1 - torch.arange(batch.items.numel())
    seen_N = (from_end_N < window) & users_B[batch.users]
    size = int(batch.items.max()) + 1 if batch.items.numel() else 1
    keys, place = torch.unique(batch.users[seen_N] * size + batch.items[seen_N], return_inverse=True)
    newest = torch.full((keys.numel(),), window, dtype=torch.int64)
    newest.scatter_reduce_(0, place, from_end_N[seen_N], "amin")
    order = torch.argsort(newest, stable=True)
    order = order[torch.argsort(keys[order] // size, stable=True)]  # by user, newest first
    users = keys[order] // size
    first_B = torch.searchsorted(users, torch.arange(batch.size))
    kept = torch.arange(users.numel()) - first_B[users] < most
    return LeftOut(users[kept], (keys[order] % size)[kept])


def rescored(recommender: Recommender, batch: UserBatch, items_BK: Tensor, left_out: LeftOut) -> tuple[Tensor, Tensor]:
    """[R, K] scores of the users' items K by the histories that are left, and which of these are empty [R].

    A score is 0 where nothing is left to score by.
    """
    scores, empty = [torch.zeros(0, items_BK.shape[1])], [torch.zeros(0, dtype=torch.bool)]
    for start in range(0, left_out.size, HISTORIES_AT_ONCE):
        some = LeftOut(left_out.users[start:][:HISTORIES_AT_ONCE], left_out.items[start:][:HISTORIES_AT_ONCE])
        rest = without(batch, some)
        scores.append(recommender.score_items(rest, items_BK[some.users]))
        empty.append(rest.lengths == 0)
    return torch.cat(scores), torch.cat(empty)


def shares_of(scores: Tensor, rest: Tensor, empty: Tensor) -> Tensor:
    """By what share of its size a score falls when it becomes `rest`: 1 where the history that is left is `empty`.

    NaN where the score is 0, and no share can be told. All of one shape.
    """
    shares = (scores - rest) / scores.abs()
    return torch.where(empty, 1.0, shares).masked_fill(scores == 0, torch.nan)


def most_lowering(
    recommender: Recommender, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor, window: int, most: int
) -> tuple[Tensor, Tensor]:
    """Of the `most` items met last, the one whose leaving out lowers the score most: its code [B, K], and its share.

    No item (-1, NaN) for pairs that are not wanted, and where leaving out lowers nothing. Of equals the one met last.
    A user of whom anything is wanted costs `most` + 1 encodings of a history.
    """
    asked_B = wanted_BK.any(1)
    users_U = asked_B.nonzero().squeeze(1)
    whole_UK, _ = rescored(recommender, batch, items_BK, LeftOut(users_U, torch.full_like(users_U, -1)))
    scores_BK = torch.zeros(items_BK.shape).index_copy_(0, users_U, whole_UK)
    left_out = last_items(batch, asked_B, window, most)
    rest_RK, empty_R = rescored(recommender, batch, items_BK, left_out)
    falls_RK = (scores_BK[left_out.users] - rest_RK).masked_fill(empty_R[:, None], torch.inf)
    of_user_RK = left_out.users[:, None].expand_as(falls_RK)
    largest_BK = torch.zeros(items_BK.shape).scatter_reduce_(0, of_user_RK, falls_RK, "amax")
    rows_RK = torch.arange(left_out.size)[:, None].expand_as(falls_RK)
    lowers_RK = (falls_RK == largest_BK[left_out.users]) & (falls_RK > 0)
    row_BK = torch.full(items_BK.shape, left_out.size)
    row_BK.scatter_reduce_(0, of_user_RK, rows_RK.masked_fill(~lowers_RK, left_out.size), "amin")
    found_BK = (row_BK < left_out.size) & wanted_BK
    if not bool(found_BK.any()):
        return torch.full_like(items_BK, -1), torch.full(items_BK.shape, torch.nan)
    row_BK = row_BK.masked_fill(~found_BK, 0)
    shares_BK = shares_of(scores_BK, rest_RK.gather(0, row_BK), empty_R[row_BK])
    named_BK = torch.where(found_BK, left_out.items[row_BK], -1)
    return named_BK, shares_BK.masked_fill(~found_BK, torch.nan)
