"""Histories packed end to end: no padding reaches an encoder.

B rows (histories) of P positions altogether. Row b owns the positions `starts[b]` to `starts[b] + lengths[b] - 1`,
oldest event first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

GROWTH = {"cpu": 1.25, "cuda": 4.0}
"""Rows whose lengths differ by at most this factor are padded to one another where an operation needs a rectangle: on a
GPU, for which these are small, what counts is how few there are."""


@dataclass(frozen=True)
class Group:
    """Rows of similar length as a rectangle."""

    width: int
    """Positions of its longest row, W."""
    rows: int
    """Number of rows, b."""


@dataclass(frozen=True)
class Rows:
    """Where each row and each position stands."""

    lengths_B: Tensor
    """[B] int64, every length at least 1."""

    @property
    def size(self) -> int:
        """Number of rows B."""
        return int(self.lengths_B.numel())

    @cached_property
    def starts_B(self) -> Tensor:  # noqa: N802 - its name carries its shape
        """[B] the first position of each row."""
        return self.lengths_B.cumsum(0) - self.lengths_B

    @cached_property
    def last_B(self) -> Tensor:  # noqa: N802 - its name carries its shape
        """[B] the last position of each row."""
        return self.lengths_B.cumsum(0) - 1

    @cached_property
    def total(self) -> int:
        """Number of positions P."""
        return int(self.lengths_B.sum())

    @cached_property
    def row_P(self) -> Tensor:  # noqa: N802 - its name carries its shape
        """[P] the row that owns each position."""
        rows_B = torch.arange(self.size, device=self.lengths_B.device)
        return torch.repeat_interleave(rows_B, self.lengths_B, output_size=self.total)

    @cached_property
    def place_P(self) -> Tensor:  # noqa: N802 - its name carries its shape
        """[P] each position's place within its row, from 0."""
        return torch.arange(self.total, device=self.lengths_B.device) - self.starts_B[self.row_P]

    @cached_property
    def _time_major(self) -> tuple[Tensor, Tensor, Tensor]:
        """Positions in the order of a PackedSequence [P], the way back [P], and rows at each place (on the CPU)."""
        rank_B = torch.empty_like(self.lengths_B)
        rank_B[self.lengths_B.argsort(descending=True, stable=True)] = torch.arange(self.size, device=rank_B.device)
        order_P = (self.place_P * self.size + rank_B[self.row_P]).argsort()
        return order_P, _inverse(order_P), torch.bincount(self.place_P).cpu()

    def to_packed_sequence(self, values_PD: Tensor) -> PackedSequence:
        """The rows as torch's recurrent layers take them: longest row first, place by place."""
        order_P, back_P, sizes_L = self._time_major
        return PackedSequence(_permuted(values_PD, order_P, back_P), sizes_L)

    def from_packed_sequence(self, sequence: PackedSequence) -> Tensor:
        """Values [P, D] of a sequence that came out of `to_packed_sequence`'s."""
        order_P, back_P, _ = self._time_major
        return _permuted(sequence.data, back_P, order_P)

    @cached_property
    def _grouped(self) -> tuple[list[Group], Tensor, Tensor]:
        return self._groups(self.lengths_B.device)

    def _groups(self, used_on: torch.device) -> tuple[list[Group], Tensor, Tensor]:
        """Groups of rows; the position at each slot of their rectangles [S], P where padding; each position's slot."""
        growth = GROWTH.get(used_on.type, GROWTH["cuda"])
        order_B = self.lengths_B.argsort(stable=True)
        groups, places, device = [], [], self.lengths_B.device
        lengths = self.lengths_B[order_B].tolist()
        start = 0
        while start < len(lengths):
            stop, limit = start, int(lengths[start] * growth)
            while stop < len(lengths) and lengths[stop] <= limit:
                stop += 1
            width, rows = lengths[stop - 1], order_B[start:stop]
            steps_W = torch.arange(width, device=device)
            real_BW = steps_W < self.lengths_B[rows][:, None]
            places.append(torch.where(real_BW, self.starts_B[rows][:, None] + steps_W, self.total).flatten())
            groups.append(Group(width, stop - start))
            start = stop
        position_S = torch.cat(places) if places else self.lengths_B
        slot_P = torch.empty(self.total + 1, dtype=torch.int64, device=device)
        slot_P[position_S] = torch.arange(position_S.numel(), device=device)
        return groups, position_S, slot_P[: self.total]

    def to_groups(self, values_PD: Tensor) -> list[Tensor]:
        """The rows in rectangles [b, W, D] of rows of similar length, padded with zeros behind their ends."""
        groups, position_S, slot_P = self._grouped
        slots_SD = _Placed.apply(values_PD, position_S, slot_P)
        parts = slots_SD.split([group.rows * group.width for group in groups])
        return [part.view(group.rows, group.width, -1) for part, group in zip(parts, groups, strict=True)]

    def from_groups(self, groups: list[Tensor]) -> Tensor:
        """Values [P, D] at the real positions of rectangles as `to_groups` gives them."""
        _, position_S, slot_P = self._grouped
        return _Placed.apply(torch.cat([group.flatten(0, 1) for group in groups]), slot_P, position_S)

    def to(self, device: torch.device) -> Rows:
        """The rows on a device, with everything that follows from the lengths computed here and carried over."""
        if self.lengths_B.device == device:
            return self
        there = Rows(self.lengths_B.to(device))
        order_P, back_P, sizes_L = self._time_major
        groups, position_S, slot_P = self._groups(device)
        carried = {name: getattr(self, name).to(device) for name in ("starts_B", "last_B", "row_P", "place_P")}
        there.__dict__.update(carried, total=self.total)
        there.__dict__["_time_major"] = (order_P.to(device), back_P.to(device), sizes_L)
        there.__dict__["_grouped"] = (groups, position_S.to(device), slot_P.to(device))
        return there


@dataclass(frozen=True)
class History:
    """What is known of a batch of histories besides their items."""

    rows: Rows
    """Where the rows stand."""
    event_types_P: Tensor | None = None
    """[P] int64 codes into `events.types.EVENT_TYPES`."""
    gaps_P: Tensor | None = None
    """[P] seconds since the row's event before; its first has none and says 0."""
    users_U: Tensor | None = None
    """[U] int64 distinct user indices in rising order, 0 for unknown users."""
    user_B: Tensor | None = None
    """[B] int64 the place of each row's user in `users_U`."""


def pack(values_BL: Tensor, lengths_B: Tensor) -> tuple[Tensor, Rows]:
    """Packed values [P] of left-aligned rows, and where they stand; every length is at least 1."""
    lengths_B = lengths_B.to(torch.int64)
    real_BL = torch.arange(values_BL.shape[1], device=values_BL.device) < lengths_B[:, None]
    return values_BL[real_BL], Rows(lengths_B)


def last_places(starts_B: Tensor, lengths_B: Tensor, most: int) -> tuple[Tensor, Rows]:
    """Where the last `most` events of rows stand [P], and the rows that they make; every length is at least 1.

    Row b's events stand at `starts[b]` to `starts[b] + lengths[b] - 1` of whatever they are picked from.
    """
    rows = Rows(lengths_B.clamp(max=most))
    return (starts_B + lengths_B - rows.lengths_B)[rows.row_P] + rows.place_P, rows


def _inverse(order_P: Tensor) -> Tensor:
    inverse_P = torch.empty_like(order_P)
    inverse_P[order_P] = torch.arange(order_P.numel(), device=order_P.device)
    return inverse_P


def _permuted(values_PD: Tensor, order_P: Tensor, back_P: Tensor) -> Tensor:
    return _Placed.apply(values_PD, order_P, back_P)


class _Placed(torch.autograd.Function):
    """Values picked by index, each at most once; an index past the end gives zeros.

    The gradient is picked by the way back: autograd, not knowing that no value is picked twice, would add row by row.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor, index: Tensor, back: Tensor) -> Tensor:
        """`back` says for each value where it went, past the end where nowhere."""
        ctx.save_for_backward(index, back)
        return _pick(values, index)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The way back, itself differentiable."""
        index, back = ctx.saved_tensors
        return _Placed.apply(gradient, back, index), None, None


def _pick(values: Tensor, index: Tensor) -> Tensor:
    size = values.shape[0]
    picked = values.index_select(0, index.clamp(max=size - 1))
    if index.numel() <= size:
        return picked
    if values.device.type == "cpu":
        return picked.index_fill_(0, (index >= size).nonzero().squeeze(1), 0.0)
    return picked.masked_fill_((index >= size)[:, None], 0.0)  # to ask which ones they are would be to wait
