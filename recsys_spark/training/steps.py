"""From a batch of sequence rows to a training step: real positions, distinct items, negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_spark.models.composed import NEGATIVES
from recsys_spark.models.negatives import NegativeSampler
from recsys_spark.models.step import Negatives, Step
from recsys_spark.training.processes import Processes
from recsys_spark.training.spec import TrainSpec

SEQUENCE_COLUMNS = ("items", "times", "length", "row_weight")
"""What a step is made from: tokens and times [B, L] left-aligned, their lengths, and whether a row is real."""


@dataclass(frozen=True)
class _Positions:
    """What was read and what came next, as tokens."""

    inputs_BL: Tensor
    positions_P: Tensor
    targets_P: Tensor


class StepMaker:
    """Makes the steps of one process. Every draw follows from seed, epoch, step (and rank where processes differ)."""

    def __init__(self, spec: TrainSpec, counts_I: Tensor, processes: Processes) -> None:
        self._spec = spec
        self._processes = processes
        self._kind = NEGATIVES[spec.composition.loss]
        self._sampler = NegativeSampler(counts_I, spec.negatives_power)
        self._num_items = spec.composition.num_items
        self._all_codes = torch.arange(self._num_items)

    def make(self, rows: Mapping[str, Tensor], epoch: int, number: int) -> Step:
        """The step of the `SEQUENCE_COLUMNS` of a batch of rows; rows of weight 0 take no part."""
        targets = torch.Generator().manual_seed(mixed_seed(self._spec.seed, epoch, number, self._processes.rank, 1))
        pairs = _next_moment_pairs(rows["items"], rows["times"], rows["length"], rows["row_weight"], targets)
        tokens, log_weight, target_log_weight = self._draw(pairs, epoch, number)
        tokens_R, lookup = self._number_rows(pairs, tokens)
        negatives = Negatives(lookup[tokens], log_weight, target_log_weight)
        step = Step(tokens_R, lookup[pairs.inputs_BL], pairs.positions_P, lookup[pairs.targets_P], negatives)
        return _to(step, self._processes.device)

    def _draw(self, pairs: _Positions, epoch: int, number: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Negative tokens, their log weights, and the targets' where the loss corrects them."""
        if self._kind == "all":
            return self._all_codes + 1, torch.zeros(self._num_items), None
        rank = self._processes.rank if self._kind == "each" else 0  # shared negatives are the same on every process
        generator = torch.Generator().manual_seed(mixed_seed(self._spec.seed, epoch, number, rank))
        if self._kind == "shared":
            codes, log_weight = self._sampler.shared(self._spec.negatives, generator)
            return codes + 1, log_weight, None
        draws = self._spec.negatives
        codes, log_weight = self._sampler.each(pairs.targets_P.numel(), draws, generator)
        return codes + 1, log_weight, self._sampler.log_noise_odds(pairs.targets_P - 1, draws)

    def _number_rows(self, pairs: _Positions, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct tokens over all processes [R] with the padding first, and the row of each token [I + 1]."""
        marks = torch.zeros(self._num_items + 1, dtype=torch.uint8)
        marks[0] = 1
        for tokens in (pairs.inputs_BL, pairs.targets_P, negatives):
            marks[tokens.flatten()] = 1
        if self._processes.size > 1:
            marks = marks.to(self._processes.device)
            self._processes.union_(marks)
            marks = marks.cpu()
        return marks.nonzero().squeeze(1), marks.to(torch.int32).cumsum(0) - 1


def mixed_seed(*parts: int) -> int:
    """One seed of several numbers, without collisions between neighbours."""
    seed = 0
    for part in parts:
        seed = (seed * 6364136223846793005 + part + 1442695040888963407) % 2**63
    return seed


def _next_moment_pairs(
    tokens_BL: Tensor, times_BL: Tensor, lengths_B: Tensor, row_weights_B: Tensor, generator: torch.Generator
) -> _Positions:
    """For each real position an item of the row's next moment, drawn where several were bought at once.

    Where no two events of a user share a time this is the next item. Baskets have no order inside, only the order in
    which their lines were written; learning the next line teaches that order instead of what is bought later. Rows that
    are one basket alone fall back to the next line.
    """
    lengths_B = torch.where(row_weights_B > 0, lengths_B.to(torch.int64), 0)
    width = max(1, int(lengths_B.max()) if lengths_B.numel() else 1)
    tokens_BL, times_BL = tokens_BL[:, :width].to(torch.int64), times_BL[:, :width]
    places_L = torch.arange(width)
    real_BL = places_L < lengths_B[:, None]
    moments_BL = F.pad(times_BL.diff(dim=1) != 0, (1, 0)).cumsum(dim=1)
    last_B = moments_BL.gather(1, (lengths_B - 1).clamp(min=0)[:, None])
    moments_BL = torch.where(last_B == 0, places_L, moments_BL)
    moments_BL = moments_BL.masked_fill(~real_BL, width + 1)
    first_BL = torch.searchsorted(moments_BL, moments_BL + 1)
    after_BL = torch.searchsorted(moments_BL, moments_BL + 1, right=True)
    positions_P = (real_BL & (after_BL > first_BL)).flatten().nonzero().squeeze(1)
    first_P, after_P = first_BL.flatten()[positions_P], after_BL.flatten()[positions_P]
    drawn_P = first_P + (torch.rand(positions_P.numel(), generator=generator) * (after_P - first_P)).to(torch.int64)
    targets_P = tokens_BL.flatten()[positions_P // width * width + drawn_P.minimum(after_P - 1)]
    return _Positions(tokens_BL * real_BL, positions_P, targets_P)


def _to(step: Step, device: torch.device) -> Step:
    if device.type == "cpu":
        return step
    negatives = step.negatives
    targets = negatives.target_log_weight_P
    return Step(
        step.tokens_R.to(device),
        step.inputs_BL.to(device),
        step.positions_P.to(device),
        step.targets_P.to(device),
        Negatives(
            negatives.rows.to(device),
            negatives.log_weight.to(device),
            None if targets is None else targets.to(device),
        ),
    )
